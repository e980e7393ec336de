"""DDIM inversion: from a clean latent to the noise that leads to it, keeping every latent on the way.

Source: Ditail (arXiv 2312.08873), section 3 "inversion", as in the authors' diffusers code: at every level the
UNet is told the *noisier* timestep and given the latent it really has, one row, no classifier-free guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """

    AUTHORS = "authors"
    WARM_START = "warm start"


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
        refinements: further fixed-point iterations at each level, one UNet call each.
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
    rule = InversionRule(rule)
    cond = expand_rows(cond, latent.shape[0])
    current = latent.to(torch.promote_types(latent.dtype, torch.float32))
    here, epsilon = clean, None
    visited = [current]
    for step, there in enumerate(levels):
        if rule is InversionRule.AUTHORS or there.is_terminal:
            epsilon = None
        epsilon = _estimate(predict_noise, current, here, there, cond, epsilon, rule, refinements)
        current = move(current, here, there, epsilon)
        here = there
        visited.append(current)
        if on_step is not None:
            on_step(step, len(levels), there, current)
    return SourceTrajectory((clean, *levels), torch.stack(visited).to(torch.float32))


def _estimate(
    predict_noise: PredictNoise,
    latent: Tensor,
    here: Level,
    there: Level,
    cond: Condition,
    guess: Tensor | None,
    rule: InversionRule,
    refinements: int,
) -> Tensor:
    """The noise estimate that moves ``latent`` from ``here`` to ``there``.

    At a terminal level (zero terminal SNR) a v-model's estimate is its own input, whatever that is, so there is
    nothing to learn there: the estimate is taken at the level the latent has (textbook DDIM inversion).
    """
    if there.is_terminal:
        return predict_noise(latent, here, cond)
    iterations = refinements + (1 if rule is InversionRule.WARM_START else 0)
    epsilon = guess if guess is not None else predict_noise(latent, there, cond)
    for _ in range(iterations):
        epsilon = predict_noise(move(latent, here, there, epsilon), there, cond)
    return epsilon
