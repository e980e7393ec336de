from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditail_ext.standalone.small import TEXT_FOLDER, write_small_checkpoint, write_text_folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small checkpoints, source and target, and their text encoder's folder."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_text_folder(folder / TEXT_FOLDER)
    write_small_checkpoint(folder / "source.safetensors", seed=1)
    write_small_checkpoint(folder / "target.safetensors", seed=2)
    return folder


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 96x64 picture of smooth noise."""
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((96, 64), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def arguments(checkpoints: Path, picture: Path, tmp_path: Path) -> list[str]:
    """A correct command line; options added behind it win."""
    return [
        str(picture),
        f"--source={checkpoints / 'source.safetensors'}",
        f"--target={checkpoints / 'target.safetensors'}",
        "--prompt=a red circle, on grey",
        "--negative-prompt=blurry",
        "--steps=4",
        "--size=64",
        f"--output={tmp_path / 'out.png'}",
    ]
