"""Several models in one batch of a host's sampler: [the target's rows; the second model's; ...].

A host's sampler owns its step: what noise it adds, which estimates it keeps for the next step (DPM++ 2M), how often
it evaluates. Run once on a batch that holds every model's rows, it does all that for each row, so each model's history
is its own and no sampler is written anew. Only two things are added: each evaluation sends every model its own rows,
and before a step's first evaluation the rows are merged. A batch cannot shrink while a sampler runs; after the
window the companions' rows are no longer evaluated, which costs nothing, and :meth:`RowGroups.finish` drops them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import torch
from torch import Tensor

from ...errors import AggregationError
from ..levels import Level, NoiseSchedule
from .aggregation import Aggregation, Merger

Evaluate = Callable[[Tensor], Tensor]
"""Of one model's rows what its sampler wants to know of them: epsilon, or the denoised latent."""


class Scaling(str, Enum):
    """What a sampler's latents are."""

    VP = "variance preserving"
    VE = "variance exploding"


class RowGroups:
    """One sampling run of several models in one batch.

    ::

        x = groups.spread(x)                   # noise that the sampler adds is spread, too: the same for all models
        # at a step's first evaluation:
        x.copy_(groups.begin(step, level, x))  # in the sampler's own tensor
        # at every evaluation, the first included:
        denoised = groups.evaluate(x, models, idle=lambda rows: rows)
        # behind the sampler:
        x = groups.finish(x)
    """

    def __init__(
        self,
        aggregation: Aggregation,
        schedule: NoiseSchedule,
        scaling: Scaling = Scaling.VE,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is computed before the first step.

        Args:
            aggregation: weights, window and pull; its first model is the target.
            schedule: that all models were trained on.
            scaling: of the sampler's latents; they are merged as VP.
            release: called once the companions have computed their last step.
        """
        self._aggregation = aggregation
        self._merger = Merger(aggregation, schedule)
        self._scaling = scaling
        self._release = release
        self._step = -1
        self._level: Level | None = None
        self._entered: list[Tensor] = []
        self._epsilons: list[Tensor] | None = None

    @property
    def evaluating(self) -> bool:
        """Whether the companions compute the step at hand."""
        return self._aggregation.needs_companions(self._step)

    def spread(self, rows: Tensor, *own: Tensor) -> Tensor:
        """The target's rows (B, ...) and each companion's own, or the target's once more for each: (models * B, ...).

        Raises:
            AggregationError: own rows are given for another number of companions.
        """
        companions = self._aggregation.models - 1
        if own and len(own) != companions:
            raise AggregationError(f"There are own latents of {len(own)} models for {companions}; give one for each.")
        return torch.cat([rows, *(own or [rows] * companions)])

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The rows by model, the target's first.

        Raises:
            AggregationError: the rows are not as many for each.
        """
        if rows.shape[0] % self._aggregation.models:
            raise AggregationError(
                f"The sampler has {rows.shape[0]} rows for {self._aggregation.models} models; another extension "
                "changes the batch: switch it off."
            )
        return rows.chunk(self._aggregation.models)

    def begin(self, step: int, level: Level, rows: Tensor) -> Tensor:
        """Merge what the step before has left; to be called before a step's first evaluation, and for every step.

        Args:
            step: from 0.
            level: that the rows have and the UNets are told.
            rows: (models * B, C, H, W), in the sampler's scaling.

        Returns:
            The rows to go on with, ``rows`` itself where nothing is merged.
        """
        going_on = self._merged(level, rows)
        self._step, self._level = step, level
        if self.evaluating:
            self._entered = self._to_vp(level, self.split(going_on))
        self._epsilons = None
        return going_on

    def evaluate(self, rows: Tensor, models: Sequence[Evaluate], idle: Evaluate) -> Tensor:
        """Each model's estimate of its own rows; after the window the target's, and ``idle`` of the others' rows.

        Args:
            rows: (models * B, C, H, W).
            models: one a model, the target's first.
            idle: what the sampler is told of rows that nobody evaluates: anything finite of their shape.
        """
        parts = self.split(rows)
        if not self.evaluating:
            return torch.cat([models[0](parts[0]), *(idle(part) for part in parts[1:])])
        return torch.cat([model(part) for model, part in zip(models, parts, strict=True)])

    def note_epsilon(self, epsilon: Tensor) -> None:
        """Tell the noise estimate of the step's first evaluation, (models * B, C, H, W); only a pull asks for it."""
        if self._epsilons is None:
            self._epsilons = list(self.split(epsilon))

    def finish(self, rows: Tensor, level: Level | None = None) -> Tensor:
        """The target's rows when the sampler is through, at ``level`` (clean unless given): (B, C, H, W)."""
        return self.split(self._merged(level or Level.clean(), rows))[0]

    def _merged(self, level: Level, rows: Tensor) -> Tensor:
        step = self._step
        if self._level is None or not self._aggregation.needs_companions(step):
            return rows
        left = self._to_vp(level, self.split(rows))
        merged = self._merger.after_step(step, self._level, self._entered, left, self._epsilons)
        if not self._aggregation.needs_companions(step + 1):
            self._entered = []
            self._release()
        if not self._aggregation.merges(step):
            return rows
        factor = level.signal if self._scaling is Scaling.VE else 1.0
        return (torch.cat(merged) / factor).to(rows.dtype)

    def _to_vp(self, level: Level, parts: Sequence[Tensor]) -> list[Tensor]:
        factor = level.signal if self._scaling is Scaling.VE else 1.0
        return [part * factor for part in parts]
