"""Merging the latents of several models into one: true slerp, and the released code's weights.

AMDM (arXiv 2410.01262) merges "on the sphere": VP latents of one level have about one norm, sqrt(C H W), and so
should what is made of them. Its released code (Hammour-steak/AMDM) takes ``w`` and ``sqrt(1 - w^2)``, which keeps the
norm of latents at right angles alone; those of models of one family from one noise lie close together, and the norm
then rises up to sqrt(2). :class:`Slerp` measures the angle and keeps the norm whatever it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ...errors import AggregationError

_ROUNDS = 24
"""Of the spherical mean's iteration; latents at right angles, its hardest case here, agree to 1e-6 by then."""


class Merge(Protocol):
    """Merges latents of one level, one tensor a model; each image of a batch as if it were alone."""

    @property
    def models(self) -> int:
        """How many latents it merges."""
        ...

    def __call__(self, latents: Sequence[Tensor]) -> Tensor:
        """Of ``models`` VP latents (B, C, H, W) make one; in float32 at least."""
        ...


@dataclass(frozen=True)
class Slerp:
    """The weighted mean on the sphere; of two latents the spherical linear interpolation by their measured angle.

    The direction is the spherical mean (Buss and Fillmore, "Spherical averages", 2001): the one to which the
    weighted angles along the great circles sum to nothing. It does not depend on the models' order, and a model of
    weight 0 has no part in it. The norm is the weighted mean of the norms. So for any number of models the norm is
    kept if all have it.

    Attributes:
        weights: one a model, the target's first; from 0 to 1, their sum is 1.
    """

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_shares(self.weights)
        if len(self.weights) < 2:
            raise AggregationError("One model alone has nothing to be merged with; name another checkpoint.")
        if abs(sum(self.weights) - 1.0) > 1e-6:
            raise AggregationError(
                f"The weights of all models must sum to 1, not {sum(self.weights):g}; give the target what the others "
                "leave."
            )

    @classmethod
    def beside_target(cls, others: Sequence[float]) -> Slerp:
        """The weights of the further models; the target has the rest.

        Raises:
            AggregationError: a weight lies outside 0..1, or they leave the target nothing to have.
        """
        _require_shares(others)
        if sum(others) > 1.0 + 1e-6:
            raise AggregationError(
                f"The weights of the further checkpoints sum to {sum(others):g}; keep their sum at 1 or below, the "
                "target has the rest."
            )
        return cls((max(0.0, 1.0 - sum(others)), *others))

    @property
    def models(self) -> int:
        """One weight a model."""
        return len(self.weights)

    def __call__(self, latents: Sequence[Tensor]) -> Tensor:
        """See :class:`Merge`."""
        flat = _flat(latents, self.models)
        norms = flat.norm(dim=-1, keepdim=True)
        units = flat / norms.clamp(min=torch.finfo(flat.dtype).tiny)
        weights = flat.new_tensor(self.weights).view(-1, 1, 1)
        direction = _between(units, self.weights[1]) if self.models == 2 else _spherical_mean(units, weights)
        return (direction * (weights * norms).sum(0)).view(latents[0].shape)


@dataclass(frozen=True)
class ReleasedMix:
    """The released code's weights: w and sqrt(1 - w^2) for two models, two such numbers for three.

    Three: ``w1 w2 x_1 + sqrt(1 - w1^2) w2 x_2 + sqrt(1 - w1^2) sqrt(1 - w2^2) x_3``. The squares of these factors sum
    to 1 - w1^2 (1 - w2^2), 0.834 at the released 0.47 and 0.5. As released; it wants a :class:`~.pull.Pull`.

    Attributes:
        weights: w, or w1 and w2, from 0 to 1.
    """

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_shares(self.weights)
        if len(self.weights) not in (1, 2):
            raise AggregationError(
                f"The released rule merges two models by one weight or three by two, not {len(self.weights)} weights; "
                "use slerp for other numbers."
            )

    @property
    def models(self) -> int:
        """One more than there are weights."""
        return len(self.weights) + 1

    @property
    def factors(self) -> tuple[float, ...]:
        """What each model's latent is multiplied with."""
        first, *more = self.weights
        rest = math.sqrt(1.0 - first * first)
        if not more:
            return first, rest
        return first * more[0], rest * more[0], rest * math.sqrt(1.0 - more[0] * more[0])

    def __call__(self, latents: Sequence[Tensor]) -> Tensor:
        """See :class:`Merge`."""
        flat = _flat(latents, self.models)
        return (flat * flat.new_tensor(self.factors).view(-1, 1, 1)).sum(0).view(latents[0].shape)


def _require_shares(weights: Sequence[float]) -> None:
    for weight in weights:
        if not 0.0 <= weight <= 1.0:  # false for what is not a number, too
            raise AggregationError(f"A checkpoint's weight must be from 0 to 1, not {weight}.")


def _flat(latents: Sequence[Tensor], models: int) -> Tensor:
    """(models, B, C*H*W), float32 or better.

    Raises:
        AggregationError: there is another number of latents, or they have different shapes.
    """
    if len(latents) != models:
        raise AggregationError(
            f"There are weights of {models} models for the latents of {len(latents)}; give one for each."
        )
    shapes = {tuple(latent.shape) for latent in latents}
    if len(shapes) > 1:
        named = " and ".join("x".join(map(str, shape)) for shape in sorted(shapes))
        raise AggregationError(
            f"Latents of {named} cannot be merged; use checkpoints of one family, whose VAEs share a latent space."
        )
    dtype = torch.promote_types(latents[0].dtype, torch.float32)
    return torch.stack([latent.to(latents[0].device, dtype) for latent in latents]).flatten(2)


def _between(units: Tensor, weight: float) -> Tensor:
    """Of unit vectors (2, B, D) the one that has gone ``weight`` of the way from the first to the second."""
    first, second = units
    angle = _angle(first, second)
    sine = angle.sin()
    near = sine < 1e-4  # there a straight line is the arc, and the quotients lose their digits
    safe = torch.where(near, torch.ones_like(sine), sine)
    left = torch.where(near, torch.full_like(angle, 1.0 - weight), ((1.0 - weight) * angle).sin() / safe)
    right = torch.where(near, torch.full_like(angle, weight), (weight * angle).sin() / safe)
    return left * first + right * second


def _angle(first: Tensor, second: Tensor) -> Tensor:
    """Between unit vectors (..., D): (..., 1). Exact for small ones, where the arc cosine of a product is not."""
    apart = (first - second).norm(dim=-1, keepdim=True)
    return 2.0 * torch.atan2(apart, (first + second).norm(dim=-1, keepdim=True))


def _spherical_mean(units: Tensor, weights: Tensor) -> Tensor:
    """Of unit vectors (models, B, D), weights (models, 1, 1), the mean on the sphere: (B, D)."""
    tiny = torch.finfo(units.dtype).tiny
    mean = (weights * units).sum(0)
    mean = mean / mean.norm(dim=-1, keepdim=True).clamp(min=tiny)
    for _ in range(_ROUNDS):
        sideways = units - (units * mean).sum(-1, keepdim=True) * mean
        length = sideways.norm(dim=-1, keepdim=True).clamp(min=1e-20)
        step = (weights * _angle(units, mean.expand_as(units)) * sideways / length).sum(0)
        far = step.norm(dim=-1, keepdim=True)
        mean = far.cos() * mean + torch.sinc(far / math.pi) * step  # sinc(x / pi) = sin(x) / x, 1 at 0
        mean = mean / mean.norm(dim=-1, keepdim=True).clamp(min=tiny)
    return mean
