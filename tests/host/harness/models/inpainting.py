"""Inpainting checkpoints, made of the small ones: five more channels of a UNet's input."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save_file

_MORE = 5
"""The mask, and the latent of the picture without what it covers."""

_POSTERIOR = "first_stage_model.quant_conv.bias"


def write(whole: Path, to: Path) -> None:
    """Write a sibling and its ``.yaml``.

    Its VAE's posterior has next to no noise: the WebUI draws the further channels from it, other hosts take its mean.

    Args:
        whole: a checkpoint of SD1's or SDXL's layout, beside its ``.yaml``.
        to: the sibling's file.
    """
    tensors = load_file(whole)
    key = "model.diffusion_model.input_blocks.0.0.weight"
    more = torch.randn(tensors[key].shape[0], _MORE, 3, 3, generator=torch.Generator().manual_seed(5)) / 7
    tensors[key] = torch.cat([tensors[key], more.to(tensors[key].dtype)], dim=1)
    tensors[_POSTERIOR][4:] = -30
    save_file(tensors, str(to), metadata={"format": "pt"})
    settings = yaml.safe_load(whole.with_suffix(".yaml").read_text(encoding="utf-8"))
    params = settings["model"]["params"]
    if "network_config" in params:
        params["network_config"]["params"]["in_channels"] = 4 + _MORE
    else:
        settings["model"]["target"] = "ldm.models.diffusion.ddpm.LatentInpaintDiffusion"
        params |= {"conditioning_key": "hybrid", "finetune_keys": None}
        params["unet_config"]["params"]["in_channels"] = 4 + _MORE
    to.with_suffix(".yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
