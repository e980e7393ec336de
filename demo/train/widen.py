"""From a UNet of 64 channels everywhere to one with twice as many at strides 4 and 8, that says the same.

Net2WiderNet (arXiv 1511.05641, section 2.1): every channel is there twice, and what reads the pair takes a random
share from each, so that the two part ways in training. Both channels of a pair lie in the same group of a group norm
and in the same head of an attention, whose queries and keys shrink by what the wider heads add. Exact up to block 4's
output; above it two group norms see wide channels beside narrow ones and group them anew: next to nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from demo.nets import make_unet
from demo.train.bottom import make_head

NARROW, WIDE = 64, 128  # channels at strides 4 and 8
HEADS_GROW = (
    2**-0.25
)  # of queries and of keys: their product doubles with the head's channels, its scale halves by root


def widen_all(states: Mapping[str, Mapping[str, Tensor]], seed: int) -> dict[str, dict[str, Tensor]]:
    """The wide UNet's and head's states from the narrow ones; `seed` is that of the shares."""
    generator = torch.Generator().manual_seed(seed)
    wide = {"unet": make_unet(), "head": make_head(WIDE)}
    return {name: _widen_state(states[name], module.state_dict(), generator) for name, module in wide.items()}


def _widen_state(
    old: Mapping[str, Tensor], wanted: Mapping[str, Tensor], generator: torch.Generator
) -> dict[str, Tensor]:
    made = {}
    for name, like in wanted.items():
        made[name] = widen(old[name], like.shape, generator) if name in old else _twice(like)
        if name.endswith(("to_q.weight", "to_k.weight")) and len(like) == 2 * len(old[name]):
            made[name] = made[name] * HEADS_GROW
    return made


def widen(old: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A weight with pairs of channels in the dimensions that grow: what goes out is copied, what comes in shared."""
    if old.ndim == 1:
        made = _beside(old, old.repeat_interleave(2), shape[0])
    else:
        made = old.repeat_interleave(2, 0) if shape[0] == 2 * old.shape[0] else old
        if shape[1] != old.shape[1]:
            share = torch.rand(made.shape[1], generator=generator).view(1, -1, *[1] * (old.ndim - 2))
            pairs = torch.stack([made * share, made * (1 - share)], 2).flatten(1, 2)
            made = _beside(made.transpose(0, 1), pairs.transpose(0, 1), shape[1]).transpose(0, 1)
    if made.shape != shape:
        raise ValueError(f"a weight of shape {tuple(old.shape)} cannot become one of {tuple(shape)}")
    return made


def _beside(old: Tensor, pairs: Tensor, count: int) -> Tensor:
    """The first `count` channels of what is wide; if not all are wanted wide, the rest as they were.

    Where a decoder block reads wide channels and a narrow skip, the skip's come last.
    """
    if count in (len(old), len(pairs)):
        return old if count == len(old) else pairs
    wide = 2 * (count - len(old))
    return torch.cat([pairs[:wide], old[wide // 2 :]])


def _twice(wanted: Tensor) -> Tensor:
    """A shortcut (or its bias) that was none before, because as many channels went in as came out."""
    if wanted.ndim == 1:
        return torch.zeros_like(wanted)
    return torch.eye(wanted.shape[1]).repeat_interleave(2, 0).view(wanted.shape)
