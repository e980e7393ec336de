"""Small random models for the real ControlNet extension, in the layouts of those that people download.

A ControlNet, as weights of its own or as Control-LoRA's low-rank changes to the UNet's, is the encoder of a small
checkpoint and random layers that hand it on. IP-Adapter's and LLLite's are random.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_UNET = "model.diffusion_model."
_COPIED = ("time_embed", "label_emb", "input_blocks", "middle_block")
_HINT = (3, 16, 16, 32, 32, 96, 96, 256)
"""Channels between the hint's convolutions; the last gives as many as the UNet's first layer."""
_RANK = 2
EMBEDDED, _IMAGE_TOKENS = 32, 4
"""Of IP-Adapter: what a picture's embedding is long, and how many tokens are made of it."""


def write(checkpoint: Path, to: Path) -> None:
    """Make a ControlNet's file from a checkpoint of SD1's or SDXL's layout."""
    encoder = _encoder(checkpoint)
    tensors = encoder | _random_layers(encoder, torch.Generator().manual_seed(5))
    save_file({f"control_model.{name}": value for name, value in tensors.items()}, str(to))


def write_lora(checkpoint: Path, to: Path) -> None:
    """Make a Control-LoRA's file: biases, norms and low-rank changes of a checkpoint's encoder."""
    generator = torch.Generator().manual_seed(6)
    encoder = _encoder(checkpoint)
    tensors = {"lora_controlnet": torch.zeros(1)} | _random_layers(encoder, generator)
    for name, value in encoder.items():
        if value.ndim == 1:
            tensors[name] = value
            continue
        layer, (after, *before) = name.removesuffix(".weight"), value.shape
        tensors[f"{layer}.up"] = torch.randn(after, _RANK, generator=generator) * 0.1
        tensors[f"{layer}.down"] = torch.randn(_RANK, *before, generator=generator) * 0.1
    save_file(tensors, str(to))


def write_ip_adapter(checkpoint: Path, to: Path) -> None:
    """Make an IP-Adapter's file: a picture's tokens from its embedding, keys and values for each cross-attention."""
    generator = torch.Generator().manual_seed(7)
    layers = _cross_attentions(checkpoint)
    context = layers[0].shape[1]
    tensors = {
        "image_proj.proj.weight": torch.randn(_IMAGE_TOKENS * context, EMBEDDED, generator=generator),
        "image_proj.proj.bias": torch.zeros(_IMAGE_TOKENS * context),
        "image_proj.norm.weight": torch.ones(context),
        "image_proj.norm.bias": torch.zeros(context),
    }
    for index, kind in itertools.product(range(len(layers)), "kv"):
        weight = torch.randn(*layers[index].shape, generator=generator) / context**0.5
        tensors[f"ip_adapter.{2 * index + 1}.to_{kind}_ip.weight"] = weight
    save_file(tensors, str(to))


def write_lllite(checkpoint: Path, to: Path, blocks: Sequence[str]) -> None:
    """Make a ControlNet-LLLite's file: for queries, keys and values of the attention of some blocks.

    Args:
        blocks: of the encoder and the decoder, as the checkpoint calls them.
    """
    generator = torch.Generator().manual_seed(8)
    condition, inner = 16, 16
    own = load_file(checkpoint)
    tensors = {}
    for block, layer in itertools.product(blocks, _PATCHED):
        width = own[f"{_UNET}{block}.1.transformer_blocks.0.attn1.to_q.weight"].shape[1]
        layers = {
            "conditioning1.0": (condition // 2, 3, 4, 4),
            "conditioning1.2": (condition, condition // 2, 2, 2),
            "down.0": (inner, width),
            "mid.0": (inner, inner + condition),
            "up.0": (width, inner),
        }
        for name, shape in layers.items():
            key = f"lllite_unet_{block.replace('.', '_')}_1_transformer_blocks_0_{layer}.{name}"
            fan_in = torch.Size(shape[1:]).numel()
            tensors[f"{key}.weight"] = torch.randn(*shape, generator=generator) / fan_in**0.5
            tensors[f"{key}.bias"] = torch.zeros(shape[0])
    save_file(tensors, str(to))


_PATCHED = ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn2_to_q")
"""As in the files that are around."""


def _cross_attentions(checkpoint: Path) -> list[Tensor]:
    """Their weights for keys, in the order that IP-Adapter's files have: encoder, decoder, middle."""
    found = {}
    for name, value in load_file(checkpoint).items():
        part, _, path = name.removeprefix(_UNET).partition(".")
        if name.startswith(_UNET) and path.endswith("attn2.to_k.weight"):
            numbers = tuple(int(number) for number in path.split(".") if number.isdigit())
            found[("input_blocks", "output_blocks", "middle_block").index(part), numbers] = value
    return [found[place] for place in sorted(found)]


def _encoder(checkpoint: Path) -> dict[str, Tensor]:
    return {
        name.removeprefix(_UNET): value.float().clone()
        for name, value in load_file(checkpoint).items()
        if name.startswith(_UNET) and name.removeprefix(_UNET).startswith(_COPIED)
    }


def _random_layers(encoder: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """From the hint to the encoder, and from each of its blocks to the UNet's decoder."""
    widths = list(_widths(encoder))
    pairs = itertools.pairwise((*_HINT, widths[0]))
    layers = {f"input_hint_block.{2 * index}": (*pair, 3) for index, pair in enumerate(pairs)}
    layers |= {f"zero_convs.{index}.0": (width, width, 1) for index, width in enumerate(widths)}
    layers["middle_block_out.0"] = (widths[-1], widths[-1], 1)
    tensors = {}
    for name, (before, after, kernel) in layers.items():
        scale = 0.2 if kernel == 3 else 0.1
        tensors[f"{name}.weight"] = torch.randn(after, before, kernel, kernel, generator=generator) * scale
        tensors[f"{name}.bias"] = torch.zeros(after)
    return tensors


def _widths(encoder: dict[str, Tensor]) -> Iterator[int]:
    """Channels that each of the encoder's blocks gives: a convolution's, a residual block's, or a downsampler's."""
    for index in itertools.count():
        names = [f"input_blocks.{index}.0{end}.bias" for end in ("", ".out_layers.3", ".op")]
        found = [encoder[name] for name in names if name in encoder]
        if not found:
            return
        yield len(found[0])
