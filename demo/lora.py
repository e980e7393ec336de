"""A LoRA for a style the base has never seen, in kohya's format.

Names are diffusers' module paths with underscores, as the WebUI's Lora extension expects for SD1, for example
`lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q`, each with `.lora_down.weight`,
`.lora_up.weight` and `.alpha`.
"""

from __future__ import annotations

import re

import torch
from torch import nn
from torch.nn.utils import parametrize

RANK = 8
ALPHA = 8.0
_RESNET = {
    "in_layers.2": "conv1",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}


def kohya_name(path: str) -> str | None:
    """The LoRA key of one of ldm's UNet modules, e.g. `input_blocks.1.1.proj_in`; None if it gets no LoRA."""
    match = re.match(r"(input_blocks|middle_block|output_blocks)\.(.*)", path)
    if not match or path == "input_blocks.0.0":
        return None
    if match[1] == "middle_block":
        number, inner = match[2].split(".", 1)
        place, kind = "mid_block", {"0": "resnets_0", "1": "attentions_0", "2": "resnets_1"}[number]
    else:
        block, number, inner = match[2].split(".", 2)
        index, down = int(block), match[1] == "input_blocks"
        level, layer = divmod(index - 1, 3) if down else divmod(index, 3)
        if inner in ("op", "conv"):
            return None
        place = f"{'down' if down else 'up'}_blocks_{level}"
        kind = f"{'attentions' if number == '1' else 'resnets'}_{layer}"
    inner = _RESNET.get(inner, inner) if kind.startswith("resnets") else inner
    return f"lora_unet_{place}_{kind}_{inner}".replace(".", "_")


class LowRank(nn.Module):
    """A weight's low-rank addition, as a parametrization: weight + (alpha / rank) up @ down."""

    def __init__(self, weight: torch.Tensor, generator: torch.Generator) -> None:
        super().__init__()
        out, inputs, *kernel = weight.shape
        down = torch.randn(RANK, inputs, *kernel, generator=generator) / weight[0].numel() ** 0.5
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(out, RANK, *[1 for _ in kernel], device=weight.device))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight with the addition."""
        change = self.up.flatten(1) @ self.down.flatten(1)
        return weight + (ALPHA / RANK) * change.view_as(weight)


def attach(unet: nn.Module, seed: int, above: int | None = None) -> nn.ModuleDict:
    """Freeze the UNet and put a LoRA on every linear and convolution it covers; its modules by kohya name.

    With `above`, only in the decoder's blocks beyond that one.
    """
    unet.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    adapters = nn.ModuleDict()
    for path, module in list(unet.named_modules()):
        name = kohya_name(path) if isinstance(module, nn.Linear | nn.Conv2d) else None
        if name is not None and (above is None or _decoder_block(path) > above):
            adapters[name] = LowRank(module.weight, generator)
            parametrize.register_parametrization(module, "weight", adapters[name])
    return adapters


def _decoder_block(path: str) -> int:
    """The number of a module's block of the decoder; -1 elsewhere."""
    match = re.match(r"output_blocks\.(\d+)\.", path)
    return int(match[1]) if match else -1


def kohya_state(adapters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state of `attach`'s modules as a LoRA file's tensors, fp16."""
    out = {}
    for key, value in adapters.items():
        name, part = key.rsplit(".", 1)
        out[f"{name}.lora_{part}.weight"] = value.half().contiguous()
        out[f"{name}.alpha"] = torch.tensor(ALPHA).half()
    return out


def merge(unet: nn.Module, tensors: dict[str, torch.Tensor], strength: float = 1.0) -> None:
    """Add a LoRA file's change to a UNet's weights in place."""
    used = 0
    for path, module in unet.named_modules():
        name = kohya_name(path) if isinstance(module, nn.Linear | nn.Conv2d) else None
        if name is None or f"{name}.lora_up.weight" not in tensors:
            continue
        up, down = (tensors[f"{name}.lora_{part}.weight"].float() for part in ("up", "down"))
        scale = strength * tensors[f"{name}.alpha"].item() / down.shape[0]
        with torch.no_grad():
            module.weight += scale * (up.flatten(1) @ down.flatten(1)).view_as(module.weight)
        used += 1
    if used == 0 or 3 * used != len(tensors):
        raise ValueError(f"{3 * used} of the LoRA's {len(tensors)} tensors found a place in the UNet")
