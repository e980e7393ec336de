"""Random weights with which every number is of order one; torch only, for any interpreter."""

from __future__ import annotations

import torch
from torch import nn


def randomise(module: nn.Module, seed: int, bias: float) -> None:
    """Every parameter by its own fan-in; nothing is left at zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2:
            parameter.data = noise / (parameter[0].numel() if "embedding" not in name else 4) ** 0.5
        elif name.endswith("weight"):
            parameter.data = 1 + 0.1 * noise
        else:
            parameter.data = bias * noise + (bias if "norm" in name else 0)
