"""The released code's "manifold optimisation": a pull of fixed length towards the DDPM posterior mean.

No gradient and no UNet call: the mean is made of the latent and the noise estimate of the step before, and lies
within a hundredth of that latent. What the pull does is to take off the norm that the released weights put on
(``docs/aggregation.md``); after slerp there is nothing to take off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import AggregationError
from ..levels import Level, NoiseSchedule

UNIT_NUMBERS = 4 * 64 * 64
"""Numbers in the latent that the released lengths are meant for, a picture of 512x512."""


@dataclass(frozen=True)
class Pull:
    """How far each model's share of the merged latent is pulled towards its own posterior mean.

    Attributes:
        lengths: one a model, the target's first, for a latent of 4x64x64; a latent of n numbers is pulled
            sqrt(n / 16384) times as far, because its norm is that much longer. The released ones lie from 35 to 55.
    """

    lengths: tuple[float, ...]

    def __post_init__(self) -> None:
        for length in self.lengths:
            if not (math.isfinite(length) and length >= 0.0):
                raise AggregationError(f"A pull's length must be a number of at least 0, not {length}.")

    def toward(self, model: int, mixed: Tensor, mean: Tensor) -> Tensor:
        """``mixed`` (B, C, H, W) moved straight towards ``mean`` by the model's length, each image for itself.

        ``x <- mix - p (mix - mu) / |mix - mu|``, the norm being that of a whole image's latent.
        """
        length = self.lengths[model] * math.sqrt(mixed[0].numel() / UNIT_NUMBERS)
        apart = mixed - mean
        norm = apart.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return mixed - length * apart / norm.clamp(min=torch.finfo(mixed.dtype).tiny)


def posterior_mean(latent: Tensor, epsilon: Tensor, level: Level, schedule: NoiseSchedule) -> Tensor:
    """The mean of DDPM's posterior, one training step down (arXiv 2006.11239, equation 11).

    ``mu = (x - (1 - alpha) / sqrt(1 - alpha_bar) e) / sqrt(alpha)`` with the one-step ``alpha`` of the
    level's timestep.

    Args:
        latent: VP, (B, C, H, W).
        epsilon: the noise estimate, of the latent's shape.
        level: whose timestep gives alpha and alpha-bar.
        schedule: the model's.
    """
    alpha = one_step_alpha(level, schedule)
    return (latent - (1.0 - alpha) / level.noise * epsilon) / math.sqrt(alpha)


def one_step_alpha(level: Level, schedule: NoiseSchedule) -> float:
    """alpha_bar(t) / alpha_bar(t - 1), which at whole timesteps is the alpha that the model was trained with."""
    timestep = level.timestep
    own = schedule.at_timestep(timestep).alpha_bar
    return own / schedule.at_timestep(timestep - 1.0).alpha_bar if timestep >= 1.0 else own
