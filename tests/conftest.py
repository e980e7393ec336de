"""What every test shares: the golden UNets, and one thread."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

# The networks here are so small that an operation costs less than handing it to other threads; several threads
# only wait for each other, and on a busy machine make the suite many times slower. Sums are also the same every time.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # the same for the programs that tests start

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def unets() -> SimpleNamespace:
    """The golden UNets, ``source`` and ``target``: SD1's layout, 32 channels, latents of at least 16x16."""
    from ldm.modules.diffusionmodules.openaimodel import UNetModel
    from safetensors import safe_open

    with safe_open(GOLDEN / "unets.safetensors", framework="pt") as file:
        config = json.loads(file.metadata()["unet_config"])
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118

    def load(prefix: str) -> torch.nn.Module:
        unet = UNetModel(**config).eval().requires_grad_(False)
        unet.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        return unet

    return SimpleNamespace(source=load("source."), target=load("target."), config=config)
