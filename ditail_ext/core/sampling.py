"""Deterministic DDIM sampling with the target model, with the source injected.

Hosts that have samplers of their own use :class:`~.injection.Injection` directly; this loop is the embedded
host's, and the reference that the others are measured against.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import ScheduleError
from .ahead import SourcePass, SourceRecorder
from .bank import FeatureBank
from .conditioning import Condition, expand_rows, join_rows
from .injection import Injection
from .prediction import Levels, PredictNoise
from .schedule import Level, move
from .shelf import BankSlot
from .trajectory import SourceTrajectory


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
    slots: Callable[[Hashable], BankSlot] | None = None,
    most_rows: Callable[[Tensor], int] | None = None,
    split_calls: bool = False,
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
        slots: where recordings of a level are kept between runs (see ``BankShelf.slot``).
        most_rows: how many of the source's rows may be recorded in one call (see ``SourceRecorder``).
        split_calls: evaluate the positive and the negative prompt in separate UNet calls (less memory).
        on_step: progress; raise from it to stop.

    Returns:
        Clean latents (B, C, H, W).

    Raises:
        ScheduleError: no levels, or an injection without a trajectory, or one for another number of pictures.
    """
    if not levels:
        raise ScheduleError("There are no noise levels to sample along; use at least one step.")
    sources = _sources(start.shape[0], trajectory, injection)
    clean = clean or Level.clean()
    batches = _batches(prompts, start.shape[0], guided=cfg_scale != 1.0, split=split_calls)
    latent = start.to(torch.promote_types(start.dtype, torch.float32))
    bank_for = _banks(predict_noise, levels, trajectory, prompts.empty, injection, slots, most_rows)
    for step, level in enumerate(levels):
        bank = bank_for(step)
        parts = []
        for cond, copies in batches:
            rows = torch.cat([latent] * copies)
            if injection is None:
                parts.append(predict_noise(rows, level, cond))
            else:
                with injection.replay(step, sources * copies, bank):
                    parts.append(predict_noise(rows, level, cond))
        epsilon = _guide(torch.cat(parts), cfg_scale)
        below = levels[step + 1] if step + 1 < len(levels) else clean
        latent = move(latent, level, below, epsilon.to(latent.dtype))
        if on_step is not None:
            on_step(step, len(levels), level, latent)
    return latent


def _sources(batch: int, trajectory: SourceTrajectory | None, injection: Injection | None) -> list[int]:
    """The source picture of each generated picture."""
    if injection is None:
        return []
    if trajectory is None:
        raise ScheduleError("Injection needs the source's trajectory; invert the picture first.")
    if trajectory.batch_size not in (1, batch):
        raise ScheduleError(
            f"There are {trajectory.batch_size} source pictures for {batch} generated ones; use one, or one for each."
        )
    return list(range(batch)) if trajectory.batch_size == batch else [0] * batch


def _batches(prompts: Prompts, batch: int, *, guided: bool, split: bool) -> list[tuple[Condition, int]]:
    """The UNet calls of a step: each call's condition, and how many copies of the latents it evaluates."""
    positive = expand_rows(prompts.positive, batch)
    if not guided:
        return [(positive, 1)]
    negative = expand_rows(prompts.negative, batch)
    if split:
        return [(positive, 1), (negative, 1)]
    return [(join_rows([positive, negative], prompts.empty), 2)]


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
