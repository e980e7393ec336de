"""Core's whole view of a host: a callable that estimates the noise in a latent."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from .conditioning import Condition
from .schedule import Level

Levels: TypeAlias = "Level | Sequence[Level]"
"""The level of all rows, or of each."""


class PredictNoise(Protocol):
    """Estimates the noise (epsilon) in a VP latent.

    ``latent`` is (rows, C, H, W) in VP scaling, ready for the UNet; ``level`` says which timestep the UNet is
    told, which during inversion is not the level the latent has: one for all rows, or one for each; ``cond`` has one
    entry a row. Returns epsilon in the latent's shape. Models that predict v convert with :func:`to_epsilon`.
    """

    def __call__(self, latent: Tensor, level: Levels, cond: Condition) -> Tensor:
        """Return epsilon, (rows, C, H, W)."""
        ...


class Prediction(str, Enum):
    """What a checkpoint's UNet returns."""

    EPSILON = "epsilon"
    V = "v"


def timesteps_of(level: Levels, latent: Tensor) -> Tensor:
    """What the UNet is told for each row of a latent: (rows,), float32, on its device."""
    if isinstance(level, Level):
        return torch.full((latent.shape[0],), level.timestep, dtype=torch.float32, device=latent.device)
    return torch.tensor([one.timestep for one in level], dtype=torch.float32).to(latent.device)


def to_epsilon(prediction: Prediction, output: Tensor, latent: Tensor, level: Levels) -> Tensor:
    """The noise estimate that a UNet's output stands for.

    ``e = a v + s x`` for v-prediction (arXiv 2202.00512, appendix D), with the level that the UNet was *told*:
    that is what it believes the latent to have.
    """
    if prediction is Prediction.EPSILON:
        return output
    if isinstance(level, Level):
        return level.signal * output + level.noise * latent
    signal, noise = (output.new_tensor(values).view(-1, 1, 1, 1) for values in _mixtures(level))
    return signal * output + noise * latent


def _mixtures(levels: Sequence[Level]) -> tuple[list[float], list[float]]:
    return [level.signal for level in levels], [level.noise for level in levels]


def ldm_noise_predictor(unet: nn.Module, prediction: Prediction = Prediction.EPSILON) -> PredictNoise:
    """Wrap a UNet with ldm's call signature, ``unet(x, timesteps=, context=[, y=])``, without gradients.

    A dict condition gives ``crossattn`` as the context and ``vector``, where present, as ``y`` (SDXL).
    """

    @torch.no_grad()
    def predict_noise(latent: Tensor, level: Levels, cond: Condition) -> Tensor:
        timesteps = timesteps_of(level, latent)
        if isinstance(cond, Tensor):
            output = unet(latent, timesteps=timesteps, context=cond)
        else:
            extra = {"y": cond["vector"]} if "vector" in cond else {}
            output = unet(latent, timesteps=timesteps, context=cond["crossattn"], **extra)
        return to_epsilon(prediction, output, latent, level)

    return predict_noise
