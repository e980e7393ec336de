"""A fine-tune's weights as its difference from the base's, a byte a weight.

Matrices and kernels: the difference in 8 bits, one scale an output row (the row's largest difference is 127 steps).
Everything with one dimension (biases, norms) is small and kept whole. Rounding is at most half a step, 0.4 % of the
row's largest difference, which is the order of what fp16 itself rounds off the weights. What the fine-tune left as it
was is not stored.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

STEPS = 127
SCALE = ".scale"  # a row's step; (rows,) float32, beside the int8 tensor of the name without it


def pack(weights: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `unpack` needs beside the base to give the weights back.

    Args:
        weights: the fine-tune's.
        base: the base's as they are read back (rounded to fp16 if that is how they are stored), under the same names.

    Raises:
        ValueError: the two are not of one architecture.
    """
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in base.items()}:
        raise ValueError("a fine-tune and its base have to have the same tensors")
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if torch.equal(weight.half(), base[name].half()):
            continue
        if weight.ndim < 2:
            packed[name] = weight.half()
            continue
        rows = (weight.float() - base[name].float()).flatten(1)
        step = rows.abs().amax(1) / STEPS
        packed[name] = (rows / step.clamp(min=1e-12)[:, None]).round().to(torch.int8).view(weight.shape)
        packed[name + SCALE] = step
    return packed


def unpack(packed: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The fine-tune's weights in float32, from what `pack` gave and the same base."""
    weights: dict[str, Tensor] = {name: weight.float() for name, weight in base.items()}
    for name, stored in packed.items():
        if name.endswith(SCALE):
            continue
        if stored.dtype == torch.int8:
            change = stored.flatten(1).float() * packed[name + SCALE].float()[:, None]
            weights[name] = base[name].float() + change.view(stored.shape)
        else:
            weights[name] = stored.float()
    return weights


def is_packed(stored: Mapping[str, Tensor]) -> bool:
    """Whether these are differences from a base and not weights."""
    return any(name.endswith(SCALE) for name in stored)
