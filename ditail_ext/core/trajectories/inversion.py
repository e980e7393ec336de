"""DDIM inversion: from a clean latent to the noise that leads to it, keeping every latent on the way.

Source: Ditail (arXiv 2312.08873), section 3 "inversion", as in the authors' diffusers code: at every level the
UNet is told the *noisier* timestep and given the latent it really has, one row, no classifier-free guidance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from ...errors import ScheduleError
from ..levels import Condition, Level, PredictNoise, expand_rows, move, require_rising
from .trajectory import SourceTrajectory


class InversionRule(str, Enum):
    """Where the first noise estimate for a level comes from.

    AUTHORS: the UNet at the noisier level, on the latent of the level before; one call a level.
    WARM_START: the estimate of the level before moves the latent first, then the UNet is called on the moved
    latent; one call a level, plus one at the start. It is one fixed-point iteration whose guess is free.
    FAST: the warm start at every ``FAST_STRIDE``-th level only; at those between the noise estimate is interpolated.
    """

    AUTHORS = "authors"
    WARM_START = "warm start"
    FAST = "fast"


FAST_STRIDE = 3
"""Levels for each UNet call of the fast rule."""


class OnInversionStep(Protocol):
    """Told after every level; may raise to stop the inversion."""

    def __call__(self, step: int, steps: int, level: Level, latent: Tensor) -> None:
        """``step`` counts from 0 at the clean end; ``latent`` is VP, (B, C, H, W), at ``level``."""
        ...


@torch.no_grad()
def invert(
    predict_noise: PredictNoise,
    latent: Tensor,
    levels: Sequence[Level],
    cond: Condition,
    *,
    clean: Level | None = None,
    rule: InversionRule = InversionRule.AUTHORS,
    refinements: int = 0,
    on_step: OnInversionStep | None = None,
) -> SourceTrajectory:
    """Invert clean latents along rising noise levels.

    Args:
        predict_noise: the source model's noise estimate.
        latent: clean latents (B, C, H, W) in the model's latent scale; computed with in at least float32.
        levels: the levels to visit, rising in noise: those that the sampler will visit later. They may be
            DDIM's timesteps, Karras' sigmas or any other.
        cond: the inversion's condition, of 1 or B rows (see ``conditioning.mix``).
        clean: the level that the clean latent stands for; alpha-bar 1 unless given. The authors, like
            diffusers' DDIM, use alpha-bar of timestep 0.
        rule: see :class:`InversionRule`.
        refinements: further fixed-point iterations at each level that the UNet is asked at, one call each.
        on_step: progress; raise from it to stop.

    Returns:
        The source trajectory with the clean latent and one latent a level, float32.

    Raises:
        ScheduleError: the levels do not rise, or ``refinements`` is negative.
        ConditioningError: the condition has another number of rows.
    """
    clean = clean or Level.clean()
    require_rising(levels, clean)
    if refinements < 0:
        raise ScheduleError(f"The number of refinements must be at least 0, not {refinements}.")
    inversion = _Inversion(predict_noise, expand_rows(cond, latent.shape[0]), InversionRule(rule), refinements)
    visited = [latent.to(torch.promote_types(latent.dtype, torch.float32))]
    here, epsilon = clean, None
    for stretch in stretches(levels, FAST_STRIDE if inversion.rule is InversionRule.FAST else 1):
        moved, epsilon = inversion.along(_Stretch(here, stretch), visited[-1], epsilon)
        here = stretch[-1]
        for level, there in zip(stretch, moved, strict=True):
            visited.append(there)
            if on_step is not None:
                on_step(len(visited) - 2, len(levels), level, there)
    return SourceTrajectory((clean, *levels), torch.stack(visited).to(torch.float32))


def stretches(levels: Sequence[Level], stride: int) -> list[Sequence[Level]]:
    """The levels in stretches, each ending where the UNet is asked.

    The first level stands alone, as nothing is known below it; then ``stride`` levels each, the last of them at the
    noisiest level. A terminal level stands alone as well: at it a v-model has nothing to say.
    """
    whole = list(levels)
    last = [whole.pop()] if whole[-1].is_terminal else []
    found: list[Sequence[Level]] = [whole[:1]] if whole else []
    ends = range(len(whole), 1, -stride)
    found += [whole[max(1, end - stride) : end] for end in reversed(ends)]
    return [*found, last] if last else found


@dataclass(frozen=True)
class _Stretch:
    """From a level to the last of some, through all of them."""

    here: Level
    levels: Sequence[Level]

    def moved(self, latent: Tensor, below: Tensor, above: Tensor) -> list[Tensor]:
        """The latents at the levels, with noise estimates that go from ``below`` at ``here`` to ``above`` at the end.

        The last move is with ``above`` alone, as the sampler will take it on its way back; those before are with
        estimates linear in the angle ``atan(sigma)``, which a noise level turns by about evenly.
        """
        moved, here = [], self.here
        for level in self.levels:
            weight = self._weight(level)
            epsilon = above if weight == 1.0 else torch.lerp(below, above, weight)
            latent = move(latent, here, level, epsilon)
            here = level
            moved.append(latent)
        return moved

    def _weight(self, level: Level) -> float:
        if level is self.levels[-1]:
            return 1.0
        first, last = math.atan(self.here.sigma), math.atan(self.levels[-1].sigma)
        return (math.atan(level.sigma) - first) / (last - first)


@dataclass(frozen=True)
class _Inversion:
    """What stays the same from level to level."""

    predict_noise: PredictNoise
    cond: Condition
    rule: InversionRule
    refinements: int

    def along(self, stretch: _Stretch, latent: Tensor, before: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """The latents at a stretch's levels, and the noise estimate at its last.

        At a terminal level (zero terminal SNR) a v-model's estimate is its own input, whatever that is, so there is
        nothing to learn there: the estimate is taken at the level the latent has (textbook DDIM inversion).

        Args:
            stretch: the levels.
            latent: at the level before.
            before: the noise estimate there; ``None`` at the start.
        """
        there = stretch.levels[-1]
        if there.is_terminal:
            epsilon = self.predict_noise(latent, stretch.here, self.cond)
            return stretch.moved(latent, epsilon, epsilon), epsilon
        guessed = self.rule is not InversionRule.AUTHORS and before is not None
        epsilon = before if guessed and before is not None else self.predict_noise(latent, there, self.cond)
        # The fast rule's first step is short, and a second call for it would be one in seven of all.
        warm = self.rule is InversionRule.WARM_START or guessed
        for _ in range(self.refinements + int(warm)):
            guess = stretch.moved(latent, epsilon if before is None else before, epsilon)[-1]
            epsilon = self.predict_noise(guess, there, self.cond)
        return stretch.moved(latent, epsilon if before is None else before, epsilon), epsilon
