"""Further checkpoints on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditail_ext.standalone.cli import main
from ditail_ext.standalone.small import write_small_checkpoint


@pytest.fixture(scope="module")
def third(checkpoints: Path) -> Path:
    """A checkpoint that predicts v."""
    return write_small_checkpoint(checkpoints / "third.safetensors", seed=3, parameterization="v")


@pytest.fixture
def picture_of(arguments: list[str], tmp_path: Path):
    def run(*more: str) -> np.ndarray:
        assert main([*arguments, "--overwrite", *more]) == 0
        return np.asarray(Image.open(tmp_path / "out.png")).astype(int)

    return run


def test_a_further_checkpoint_and_all_its_options_change_the_picture(picture_of, checkpoints: Path) -> None:
    own = f"--aggregate={checkpoints / 'source.safetensors'}"
    window = "--aggregate-ratio=0.5"
    reference = picture_of(own, window)
    for options in (
        (),
        (own, "--aggregate-ratio=1"),
        (own, window, "--aggregate-start=0.25"),
        (own, window, "--aggregate-weight=0.9"),
        (own, window, "--aggregate-prompt=a blue square"),
        (own, window, "--aggregate-negative-prompt=a blue square"),
        (own, window, "--feature-ratio=0", "--attention-ratio=0"),
    ):
        assert np.abs(picture_of(*options) - reference).max() >= 2, options
    assert np.array_equal(picture_of(own, window, "--aggregate-weight=0.5", "--aggregate-prompt="), reference)


def test_a_target_merged_with_itself_is_the_target(picture_of, checkpoints: Path) -> None:
    own = f"--aggregate={checkpoints / 'target.safetensors'}"
    off = ("--feature-ratio=0", "--attention-ratio=0")
    assert np.abs(picture_of(own, "--aggregate-ratio=0.5", *off) - picture_of(*off)).max() <= 1


def test_three_checkpoints_are_written_into_the_parameters(
    picture_of, checkpoints: Path, third: Path, tmp_path: Path
) -> None:
    names = ("source", "third", "target")
    prompts = ("--aggregate-prompt=a star, blue", "--aggregate-prompt=", "--aggregate-prompt=")
    weights = (f"--aggregate-weight={weight}" for weight in (0.2, 0.3, 0.1))
    both = picture_of(*(f"--aggregate={checkpoints / f'{name}.safetensors'}" for name in names), *weights, *prompts,
                      "--aggregate-ratio=0.5")  # fmt: skip
    text = Image.open(tmp_path / "out.png").info["parameters"]
    for part in (
        "Ditail aggregate 1: source [",
        'Ditail aggregate 1 weight: 0.2, Ditail aggregate 1 prompt: "a star, blue", Ditail aggregate 2: third [',
        "Ditail aggregate 2 weight: 0.3, Ditail aggregate 3: target [",
        "Ditail aggregate 3 weight: 0.1, Ditail aggregation start: 0, Ditail aggregation ratio: 0.5",
    ):
        assert part in text
    assert np.abs(both - picture_of()).max() >= 2
    assert "aggrega" not in Image.open(tmp_path / "out.png").info["parameters"]


def test_the_sheet_s_other_panels_are_without_it(picture_of, checkpoints: Path, tmp_path: Path) -> None:
    sheets = []
    for options in ((), (f"--aggregate={checkpoints / 'source.safetensors'}", "--aggregate-ratio=0.5")):
        picture_of(*options, f"--sheet={tmp_path / 'sheet.png'}")
        sheets.append(np.asarray(Image.open(tmp_path / "sheet.png")))
    last = sheets[0].shape[1] - 96 - 12
    assert np.array_equal(sheets[0][:, :last], sheets[1][:, :last])
    assert not np.array_equal(sheets[0][:, last:], sheets[1][:, last:])
