"""Deterministic DDIM sampling with the target model, with the source injected.

Hosts that have samplers of their own use :class:`~.injection.Injection` directly; this loop is the embedded
host's, and the reference that the others are measured against.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import ScheduleError
from .aggregation import Companions, Estimate
from .injection import FeatureBank, Injection
from .levels import Condition, Level, Levels, PredictNoise, expand_rows, join_rows, move
from .recordings import BankSlot, SourcePass, SourceRecorder
from .trajectories import SourceTrajectory


class OnSamplingStep(Protocol):
    """Told after every step; may raise to stop sampling."""

    def __call__(self, step: int, steps: int, level: Level, latent: Tensor) -> None:
        """``step`` counts from 0 at the noisy end; ``latent`` is VP, (B, C, H, W), at the next level."""
        ...


@dataclass(frozen=True)
class Prompts:
    """The target model's embeddings of one sampling run, each of 1 or B rows.

    ``empty`` conditions the source's row: the empty prompt, encoded as a negative one.
    """

    positive: Condition
    negative: Condition
    empty: Condition


@torch.no_grad()
def sample(
    predict_noise: PredictNoise,
    start: Tensor,
    levels: Sequence[Level],
    prompts: Prompts,
    *,
    cfg_scale: float,
    clean: Level | None = None,
    trajectory: SourceTrajectory | None = None,
    injection: Injection | None = None,
    companions: Companions | None = None,
    slots: Callable[[Hashable], BankSlot] | None = None,
    most_rows: Callable[[Tensor], int] | None = None,
    on_step: OnSamplingStep | None = None,
) -> Tensor:
    """Sample from ``start`` down the levels (DDIM, eta 0) with classifier-free guidance.

    Args:
        predict_noise: the target model's noise estimate.
        start: VP latents (B, C, H, W) at ``levels[0]``; Ditail starts at ``trajectory.start``.
        levels: falling in noise.
        prompts: the target's embeddings.
        cfg_scale: omega in ``e = e_neg + omega (e_pos - e_neg)``; at 1 only the positive prompt is evaluated.
        clean: the level to end at; alpha-bar 1 unless given.
        trajectory: the source's latents; needed with ``injection``. It holds one picture for all rows of
            ``start``, or one for each.
        injection: an entered injection into the target's UNet; without it this is plain sampling.
        companions: further models whose latents are merged with the target's after each step of their window. What
            is injected, is so in the target alone.
        slots: where recordings of a level are kept between runs (see ``BankCache.slot``).
        most_rows: how many of the source's rows may be recorded in one call (see ``SourceRecorder``).
        on_step: progress; raise from it to stop.

    Returns:
        Clean latents (B, C, H, W).

    Raises:
        ScheduleError: no levels, or an injection without a trajectory, or one for another number of pictures.
        AggregationError: the companions' window begins after the last step, or latents cannot be merged.
    """
    if not levels:
        raise ScheduleError("There are no noise levels to sample along; use at least one step.")
    if companions is not None:
        companions.check(len(levels))
    sources = _sources(start.shape[0], trajectory, injection)
    clean = clean or Level.clean()
    cond, copies = _conditions(prompts, start.shape[0], guided=cfg_scale != 1.0)
    rows_of = None if sources is None else sources * copies
    latent = start.to(torch.promote_types(start.dtype, torch.float32))
    bank_for = _banks(predict_noise, levels, trajectory, prompts.empty, injection, slots, most_rows)
    for step, level in enumerate(levels):
        bank = bank_for(step)
        rows = torch.cat([latent] * copies)
        with nullcontext() if injection is None else injection.replay(step, bank, rows_of):
            epsilon = _guide(predict_noise(rows, level, cond), cfg_scale)
        below = levels[step + 1] if step + 1 < len(levels) else clean
        entered, epsilon = latent, epsilon.to(latent.dtype)
        latent = move(latent, level, below, epsilon)
        if companions is not None:
            latent = companions.after_step(step, (level, below), entered, latent, epsilon)
        if on_step is not None:
            on_step(step, len(levels), level, latent)
    return latent


def guided_noise(predict_noise: PredictNoise, prompts: Prompts, *, cfg_scale: float) -> Estimate:
    """A model's noise estimate with classifier-free guidance, as :func:`sample` takes the target's."""

    def estimate(latent: Tensor, level: Level) -> Tensor:
        cond, copies = _conditions(prompts, latent.shape[0], guided=cfg_scale != 1.0)
        return _guide(predict_noise(torch.cat([latent] * copies), level, cond), cfg_scale)

    return estimate


def _sources(batch: int, trajectory: SourceTrajectory | None, injection: Injection | None) -> list[int] | None:
    """The source picture of each generated picture; ``None`` where there is one for all."""
    if injection is None:
        return None
    if trajectory is None:
        raise ScheduleError("Injection needs the source's trajectory; invert the picture first.")
    if trajectory.batch_size not in (1, batch):
        raise ScheduleError(
            f"There are {trajectory.batch_size} source pictures for {batch} generated ones; use one, or one for each."
        )
    return None if trajectory.batch_size == 1 else list(range(batch))


def _conditions(prompts: Prompts, batch: int, *, guided: bool) -> tuple[Condition, int]:
    """The condition of a step's UNet call, and how many copies of the latents it evaluates."""
    positive = expand_rows(prompts.positive, batch)
    if not guided:
        return positive, 1
    return join_rows([positive, expand_rows(prompts.negative, batch)], prompts.empty), 2


def _banks(
    predict_noise: PredictNoise,
    levels: Sequence[Level],
    trajectory: SourceTrajectory | None,
    empty: Condition,
    injection: Injection | None,
    slots: Callable[[Hashable], BankSlot] | None,
    most_rows: Callable[[Tensor], int] | None,
) -> Callable[[int], FeatureBank | None]:
    """What gives each step its bank."""
    if injection is None or trajectory is None:
        return lambda step: None

    def run(rows: Tensor, of: Levels) -> None:
        predict_noise(rows, of, expand_rows(empty, rows.shape[0]))

    recorder = SourceRecorder(injection, run, slots, most_rows)

    def passes(first: int) -> Iterator[SourcePass]:
        return (SourcePass(step, levels[step], trajectory.at(levels[step])) for step in range(first, len(levels)))

    return lambda step: recorder.bank(next(passes(step)), passes(step + 1))


def _guide(epsilon: Tensor, cfg_scale: float) -> Tensor:
    if cfg_scale == 1.0:
        return epsilon
    positive, negative = epsilon.chunk(2)
    return negative + cfg_scale * (positive - negative)
