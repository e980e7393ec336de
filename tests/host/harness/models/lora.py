"""A LoRA of SDXL's layout, for the narrow checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

_WIDTHS = {0: 128, 1: 128, 2: 128, 3: 64, 4: 64, 5: 64}
"""Channels by the decoder's block."""


def write_sdxl(to: Path) -> None:
    """On self-attention's queries and values in the decoder, strong enough to be seen."""
    generator = torch.Generator().manual_seed(301)
    tensors = {}
    for block, width in _WIDTHS.items():
        for layer in ("to_q", "to_v"):
            name = f"lora_unet_output_blocks_{block}_1_transformer_blocks_0_attn1_{layer}"
            tensors[f"{name}.lora_down.weight"] = torch.randn(2, width, generator=generator) / width**0.5
            tensors[f"{name}.lora_up.weight"] = torch.randn(width, 2, generator=generator)
            tensors[f"{name}.alpha"] = torch.tensor(2.0)
    save_file(tensors, str(to), metadata={"ss_network_dim": "2"})
