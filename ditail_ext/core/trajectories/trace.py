"""The source trajectory of a picture that the source itself generated: what its UNet was given, call by call.

The paper starts from a picture and inverts it. Where the source checkpoint makes the picture, its sampling has visited
every latent already, so there is nothing to invert and nothing to encode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import TrajectoryError
from ..levels import Level
from .trajectory import SAME_LEVEL, between


class TracedLatent(NamedTuple):
    """One look-up in a trace.

    Attributes:
        evaluation: the index of the traced evaluation; ``None`` where it is a mean of two.
        latents: (B, C, H, W), VP scaling.
    """

    evaluation: int | None
    latents: Tensor


class Trace:
    """The latents of a sampling run, in the order of its evaluations.

    Second-order samplers evaluate a level twice with different latents and samplers that add noise go back up, so the
    order says what a level alone does not.

    Attributes:
        levels: of each evaluation.
        latents: (evaluations, B, C, H, W), VP scaling, just as the UNet was given them.
        clean: (B, C, H, W), where the run ended.
        picture: (B, H, W, 3), bytes, ``clean`` decoded; ``None`` where nobody asked for it.
        metadata: text about where it comes from.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        latents: Tensor,
        clean: Tensor,
        picture: Tensor | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if not levels or latents.ndim != 5 or len(levels) != latents.shape[0] or latents.shape[1:] != clean.shape:
            raise TrajectoryError(
                f"A trace needs one latent an evaluation and the clean one, not {len(levels)} levels, latents "
                f"of shape {tuple(latents.shape)} and a clean one of {tuple(clean.shape)}."
            )
        self.levels = tuple(levels)
        self.latents = latents
        self.clean = clean
        self.picture = picture
        self.metadata = dict(metadata or {})

    @property
    def batch_size(self) -> int:
        """The number of pictures."""
        return self.latents.shape[1]

    @property
    def nbytes(self) -> int:
        """Memory that the tensors take, in bytes."""
        tensors = [self.latents, self.clean, *([] if self.picture is None else [self.picture])]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def at(self, evaluation: int, level: Level) -> TracedLatent:
        """The latent of a sampler's evaluation.

        A sampler of the same kind visits the same levels in the same order: then it is the traced one, bit for bit.
        One that chooses its levels by what it sees (DPM adaptive) is answered by level: the nearest evaluation, in
        order, of that level; between two levels linearly in VE scaling, as an inverted trajectory is; beyond the
        ends, where only another noise schedule leads, the end.
        """
        if evaluation < len(self.levels) and _same(self.levels[evaluation], level):
            return self._traced(evaluation)
        same = [index for index, stored in enumerate(self.levels) if _same(stored, level)]
        if same:
            return self._traced(min(same, key=lambda index: abs(index - evaluation)))
        below = [index for index, stored in enumerate(self.levels) if stored.sigma < level.sigma]
        above = [index for index, stored in enumerate(self.levels) if stored.sigma > level.sigma]
        if not below or not above:
            ends = range(len(self.levels))
            return self._traced((max if below else min)(ends, key=lambda index: self.levels[index].sigma))
        low = min(below, key=lambda index: (-self.levels[index].sigma, abs(index - evaluation)))
        high = min(above, key=lambda index: (self.levels[index].sigma, abs(index - evaluation)))
        return TracedLatent(None, between(self.levels, self.latents, low, high, level))

    def _traced(self, index: int) -> TracedLatent:
        return TracedLatent(index, self.latents[index])

    def to(self, device: torch.device | str) -> Trace:
        """The same run on another device; the picture stays where it is."""
        return Trace(self.levels, self.latents.to(device), self.clean.to(device), self.picture, self.metadata)


def _same(one: Level, other: Level) -> bool:
    return abs(one.sigma - other.sigma) <= SAME_LEVEL * max(one.sigma, other.sigma)
