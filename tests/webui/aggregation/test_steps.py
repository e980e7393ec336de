"""Which step an evaluation belongs to, for every kind of sampler whose latents are merged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ditail_ext.core import NoiseSchedule
from ditail_ext.errors import AggregationError

SCHEDULE = NoiseSchedule.stable_diffusion()
LEVELS = tuple(SCHEDULE.at_timestep(step) for step in (900, 600, 300))


@pytest.fixture
def counter(host: SimpleNamespace) -> Any:
    module = host.load("aggregation.steps")
    plan = SimpleNamespace(levels=LEVELS, steps=len(LEVELS))

    def counter(name: str = "Euler", **options: object) -> Any:
        return module.StepCounter(SimpleNamespace(config=SimpleNamespace(name=name, options=options)), plan)

    return counter


def test_one_evaluation_a_step(counter: Any):
    steps = counter()
    assert [steps.next(level) for level in LEVELS] == [0, 1, 2]


def test_two_evaluations_at_one_level_are_told_apart(counter: Any):
    """Heun ends a step where the next begins; its last step has one evaluation."""
    steps = counter("Heun", second_order=True)
    first, second, third = LEVELS
    assert [steps.next(level) for level in (first, second, second, third, third)] == [0, None, 1, None, 2]


def test_plms_looks_ahead_once(counter: Any):
    steps = counter("PLMS")
    first, second, third = LEVELS
    assert [steps.next(level) for level in (first, second, second, third)] == [0, None, 1, 2]


def test_churn_begins_a_step_higher_up(counter: Any):
    steps = counter()
    assert steps.next(SCHEDULE.at_sigma(LEVELS[0].sigma * 1.4)) == 0


@pytest.mark.parametrize("factor", [0.9, 1.6])
def test_a_sampler_that_goes_another_way_is_refused(counter: Any, factor: float):
    steps = counter()
    steps.next(LEVELS[0])
    with pytest.raises(AggregationError, match="where its step 2 should begin at"):
        steps.next(SCHEDULE.at_sigma(LEVELS[1].sigma * factor))
