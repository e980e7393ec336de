"""How the latents of several models are merged in the course of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...errors import AggregationError
from ..levels import Level, NoiseSchedule, Window
from .merging import Merge
from .pull import Pull, posterior_mean


@dataclass(frozen=True)
class Aggregation:
    """What is merged how, and after which steps.

    Attributes:
        merge: the rule with its weights, the target's first.
        window: the steps after which all models' latents are merged. Before it each model goes its own way; after it
            the target goes on alone.
        pull: towards each model's posterior mean after merging; ``None``: all models go on from the one merged latent.

    Raises:
        AggregationError: the window is empty, or merging and pull are for different numbers of models.
    """

    merge: Merge
    window: Window
    pull: Pull | None = None

    def __post_init__(self) -> None:
        if not len(self.window) or self.window.start < 0:
            raise AggregationError(
                f"The aggregation's window, from step {self.window.start} to {self.window.stop}, is empty; let it end "
                "at least one step after it begins."
            )
        if self.pull is not None and len(self.pull.lengths) != self.models:
            raise AggregationError(
                f"There are pulls of {len(self.pull.lengths)} models and weights of {self.models}; give one for each."
            )

    @property
    def models(self) -> int:
        """The target and its companions."""
        return self.merge.models

    def merges(self, step: int) -> bool:
        """Whether latents are merged after a step. A pull needs a step before: it never merges after step 0."""
        return step in self.window and (self.pull is None or step > 0)

    def needs_companions(self, step: int) -> bool:
        """Whether the further models have to compute a step."""
        return step < self.window.stop


class Merger:
    """Applies an aggregation after each step of one run; remembers of the step before what the pull wants."""

    def __init__(self, aggregation: Aggregation, schedule: NoiseSchedule) -> None:
        self.aggregation = aggregation
        self._schedule = schedule
        self._before: tuple[Level, list[Tensor]] | None = None

    def after_step(
        self,
        step: int,
        level: Level,
        entered: Sequence[Tensor],
        left: Sequence[Tensor],
        epsilons: Sequence[Tensor] | None,
    ) -> list[Tensor]:
        """Each model's latent to go on with.

        Args:
            step: counts from 0; every step up to the window's end has to be told.
            level: that the UNets were told.
            entered: each model's VP latent (B, C, H, W) before the step, the target's first.
            left: the same after it, all at one level.
            epsilons: each model's noise estimate of the step, with guidance; ``None`` will do without a pull.

        Raises:
            AggregationError: the latents do not fit each other or the weights, or the pull lacks the estimates.
        """
        aggregation, before = self.aggregation, self._before
        if aggregation.pull is not None:
            if epsilons is None:
                raise AggregationError(
                    "The pull needs each model's noise estimate; this sampler gives none: use slerp."
                )
            self._before = level, list(epsilons)
        if not aggregation.merges(step):
            return list(left)
        mixed = aggregation.merge(left)
        if aggregation.pull is None:
            return [mixed] * aggregation.models
        assert before is not None, "a pull never merges after the first step"
        told, estimates = before
        means = [posterior_mean(x, e, told, self._schedule) for x, e in zip(entered, estimates, strict=True)]
        return [aggregation.pull.toward(model, mixed, mean) for model, mean in enumerate(means)]
