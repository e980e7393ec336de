"""Which step of a sampler an evaluation of its denoiser belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core import Level
from ...errors import AggregationError

if TYPE_CHECKING:
    from ..host.samplers import SamplerPlan

_FIRST_TWICE = ("PLMS",)
"""Samplers that look ahead once, in their first step."""

_ABOVE = 1.5
"""With churn a sampler first goes up by at most sqrt(2) - 1 of its sigma."""

_BELOW = 1e-3


class StepCounter:
    """Counts a sampler's evaluations: two may be at one level (Heun's last and the next step's first)."""

    def __init__(self, sampler: Any, plan: SamplerPlan) -> None:
        options = sampler.config.options if sampler.config is not None else {}
        self._each = 2 if options.get("second_order") else 1
        self._ahead = 1 if sampler.config is not None and sampler.config.name in _FIRST_TWICE else 0
        self._plan = plan
        self.evaluation = -1

    def next(self, level: Level) -> int | None:
        """The step that begins with this evaluation, from 0; ``None`` within a step.

        Raises:
            AggregationError: the sampler is not where a step of its plan begins.
        """
        self.evaluation += 1
        at = self.evaluation
        if self._ahead and at:
            at -= self._ahead
            if at == 0:
                return None
        step, within = divmod(at, self._each)
        if within or step >= self._plan.steps:
            return None
        expected = self._plan.levels[step].sigma
        if not expected * (1 - _BELOW) <= level.sigma <= expected * _ABOVE:
            raise AggregationError(
                f"The sampler is at sigma {level.sigma:.4g} where its step {step + 1} should begin at {expected:.4g}, "
                "so latents cannot be merged along it; choose another sampler, such as Euler or DPM++ 2M."
            )
        return step
