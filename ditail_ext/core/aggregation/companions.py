"""The further models of a DDIM run: each with its own latent and conditions, in step with the target.

For a loop of one's own, as core's ``sample`` is. Where the host's sampler owns the step, ``rows`` puts all models
into its one batch instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ...errors import AggregationError
from ..levels import Level, NoiseSchedule, move
from .aggregation import Aggregation, Merger


class Estimate(Protocol):
    """A model's noise estimate of its own latents, guidance and conditions included."""

    def __call__(self, latent: Tensor, level: Level) -> Tensor:
        """Of VP latents (B, C, H, W) the epsilon, of their shape, whatever the UNet itself predicts."""
        ...


@dataclass(frozen=True)
class Companion:
    """A further model.

    Attributes:
        estimate: its noise estimate.
        start: VP latents (B, C, H, W) that it starts from; the target's where ``None``: the same noise for all.
    """

    estimate: Estimate
    start: Tensor | None = None


class Companions:
    """The further models of one run; driven by the target's loop, once after each of its steps."""

    def __init__(
        self,
        aggregation: Aggregation,
        companions: Sequence[Companion],
        schedule: NoiseSchedule,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is computed before the first step.

        Args:
            aggregation: weights, window and pull; its first model is the target.
            companions: the others in the order of the weights.
            schedule: that all models were trained on.
            release: called once the companions have computed their last step, to give their memory back.

        Raises:
            AggregationError: there are weights for another number of models.
        """
        if len(companions) + 1 != aggregation.models:
            raise AggregationError(
                f"There are weights of {aggregation.models} models for {len(companions) + 1}; give one for each."
            )
        self._merger = Merger(aggregation, schedule)
        self._companions = tuple(companions)
        self._latents: list[Tensor] = []
        self._release = release

    def check(self, steps: int) -> None:
        """See that a run of so many steps reaches the window.

        Raises:
            AggregationError: it does not.
        """
        window = self._merger.aggregation.window
        if window.start >= steps:
            raise AggregationError(
                f"The aggregation begins after step {window.start}, but there are only {steps} steps; begin earlier."
            )

    @torch.no_grad()
    def after_step(
        self, step: int, levels: tuple[Level, Level], entered: Tensor, left: Tensor, epsilon: Tensor
    ) -> Tensor:
        """Take the companions along one step, and merge.

        Args:
            step: of the target's loop, from 0, one after the other.
            levels: that the step began and ended at.
            entered: the target's VP latents (B, C, H, W) before it.
            left: the same after it.
            epsilon: the target's noise estimate with guidance.

        Returns:
            The target's latents to go on with; ``left`` itself where nothing is merged.

        Raises:
            AggregationError: a companion's latents have another shape than the target's.
        """
        aggregation = self._merger.aggregation
        if not aggregation.needs_companions(step):
            return left
        if step == 0:
            self._latents = [entered if one.start is None else one.start.to(entered) for one in self._companions]
        level, below = levels
        pairs = zip(self._companions, self._latents, strict=True)
        epsilons = [one.estimate(latent, level).to(latent.dtype) for one, latent in pairs]
        moved = [move(x, level, below, e) for x, e in zip(self._latents, epsilons, strict=True)]
        target, *self._latents = self._merger.after_step(
            step, level, [entered, *self._latents], [left, *moved], [epsilon, *epsilons]
        )
        if not aggregation.needs_companions(step + 1):
            self._companions, self._latents = (), []
            self._release()
        return target
