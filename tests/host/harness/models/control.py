"""A small random ControlNet for the small checkpoints: alpha's encoder, and random layers that hand it on."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .checkpoints import WIDTH

_UNET = "model.diffusion_model."
_COPIED = ("time_embed", "input_blocks", "middle_block")
_HINT = (3, 16, 16, 32, 32, 96, 96, 256, WIDTH)
"""Channels between the hint's convolutions."""
_OUTPUTS = 12


def write(alpha: Path, to: Path) -> None:
    """Make the model's file from the checkpoint alpha's."""
    generator = torch.Generator().manual_seed(5)
    tensors = {
        f"control_model.{name.removeprefix(_UNET)}": value.float().clone()
        for name, value in load_file(alpha).items()
        if name.removeprefix(_UNET).startswith(_COPIED) and name.startswith(_UNET)
    }
    layers = {f"input_hint_block.{2 * index}": (*pair, 3) for index, pair in enumerate(itertools.pairwise(_HINT))}
    layers |= {f"zero_convs.{index}.0": (WIDTH, WIDTH, 1) for index in range(_OUTPUTS)}
    layers["middle_block_out.0"] = (WIDTH, WIDTH, 1)
    for name, (before, after, kernel) in layers.items():
        scale = 0.2 if kernel == 3 else 0.1
        weight = torch.randn(after, before, kernel, kernel, generator=generator) * scale
        tensors[f"control_model.{name}.weight"] = weight
        tensors[f"control_model.{name}.bias"] = torch.zeros(after)
    save_file(tensors, str(to))
