"""Which of several models knows a picture best: the error of each one's estimate of noise that was laid over it.

A diffusion model is trained to tell noise from picture, so the one whose pictures look like this one errs least
(as in a diffusion classifier, arXiv 2303.16203). All models get the same noise at the same few levels: what the
models have in common, which is most of the error, is then no matter of chance between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from .levels import Condition, Level, NoiseSchedule, PredictNoise, expand_rows

TIMESTEPS = (200, 400, 600, 800)
"""Where the models are compared: fine detail does not tell them apart, nor does what is noise all over."""

CLEAR = 0.1
"""A model knows a picture better only if the other's error is larger by this share, over all levels. (Checkpoints of
another style err twice as much on the demonstration's pictures, a generalist that knows all styles a few percent less
or more than the right specialist: ``bench/results/suggest.csv``.)"""


class Sureness(str, Enum):
    """How far a ranking can be trusted."""

    SURE = "sure"
    """One model errs clearly least, and least at every level."""
    LIKELY = "likely"
    """One model errs clearly least."""
    SHARED = "shared"
    """Several err about as little as each other, and clearly less than the others."""
    UNDECIDED = "undecided"
    """All err about as much as each other."""


@dataclass(frozen=True)
class Ranked:
    """One model among others.

    Attributes:
        name: of the model.
        excess: how much larger its error is than the best one's, as a share, over all levels (geometric mean).
        wins: at how many levels its error is the smallest.
    """

    name: str
    excess: float
    wins: int


@dataclass(frozen=True)
class Ranking:
    """Models from the one that knows the picture best to the one that knows it least.

    Attributes:
        models: in that order.
        sureness: of the first.
    """

    models: tuple[Ranked, ...]
    sureness: Sureness

    @property
    def best(self) -> tuple[str, ...]:
        """The first, and those that know the picture about as well."""
        return tuple(model.name for model in self.models if model.excess < CLEAR)


def levels_of(schedule: NoiseSchedule) -> tuple[Level, ...]:
    """The levels at which models are compared."""
    return tuple(schedule.at_timestep(timestep) for timestep in TIMESTEPS)


def noise_like(latent: Tensor, seed: int = 0) -> Tensor:
    """The noise for all models: (1, C, H, W), float32, the same for the same shape on every device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(latent.shape, generator=generator)


@torch.no_grad()
def noise_errors(
    predict_noise: PredictNoise, latent: Tensor, noise: Tensor, levels: Sequence[Level], cond: Condition
) -> tuple[float, ...]:
    """Mean squared error of a model's noise estimate at each level.

    Args:
        predict_noise: the model's.
        latent: the picture, (1, C, H, W), clean, in the model's scale.
        noise: of the same shape, of unit variance.
        levels: one row each, evaluated together.
        cond: what the picture shows, one row.
    """
    clean, noise = latent.float().cpu(), noise.float().cpu()
    rows = torch.cat([level.signal * clean + level.noise * noise for level in levels])
    estimate = predict_noise(rows.to(latent.device), list(levels), expand_rows(cond, len(levels)))
    errors = (estimate.float().cpu() - noise).square().flatten(1).mean(1)
    return tuple(float(error) for error in errors)


def rank(errors: Mapping[str, Sequence[float]]) -> Ranking:
    """Order models by their errors.

    Each level counts the same, though errors are far larger at some than at others: what is compared is by how much
    one model's is larger than another's.

    Args:
        errors: of each model, by name, at the same levels; positive.

    Raises:
        ValueError: there is no model, or not as many errors of one as of another.
    """
    if not errors:
        raise ValueError("there is no model to rank")
    names = list(errors)
    table = torch.tensor([list(errors[name]) for name in names], dtype=torch.float64)
    logs = table.clamp_min(1e-30).log()
    means = logs.mean(1)
    best = table.min(0).values
    wins = [int((row == best).sum()) for row in table]
    order = sorted(range(len(names)), key=lambda index: float(means[index]))
    excess = [float((means[index] - means[order[0]]).exp()) - 1.0 for index in range(len(names))]
    ranked = tuple(Ranked(names[index], excess[index], wins[index]) for index in order)
    return Ranking(ranked, _sureness(ranked, table.shape[1]))


def _sureness(ranked: Sequence[Ranked], levels: int) -> Sureness:
    alike = sum(model.excess < CLEAR for model in ranked)
    if alike == len(ranked):
        return Sureness.UNDECIDED
    if alike > 1:
        return Sureness.SHARED
    return Sureness.SURE if ranked[0].wins == levels else Sureness.LIKELY
