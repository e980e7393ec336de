"""A recorded run answers by order where it can, and by level where it must."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ditail_ext.core import Level, NoiseSchedule, Trace, vp_to_ve
from ditail_ext.errors import TrajectoryError

SCHEDULE = NoiseSchedule.stable_diffusion()
HEUN = [900, 700, 700, 400, 400, 100, 100]
"""Timesteps of a second-order sampler: every level but the first twice, with different latents."""


def run(timesteps: list[int], batch: int = 1) -> Trace:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(len(timesteps), batch, 4, 3, 2, generator=generator)
    return Trace([SCHEDULE.at_timestep(step) for step in timesteps], latents, torch.zeros(batch, 4, 3, 2))


def ve(latents: Tensor, level: Level) -> Tensor:
    return vp_to_ve(latents.double(), level)


def test_the_order_tells_visits_of_one_level_apart():
    made = run(HEUN, batch=2)
    for index, step in enumerate(HEUN):
        found = made.at(index, SCHEDULE.at_timestep(step))
        assert found.evaluation == index
        assert (found.latents == made.latents[index]).all()


@given(st.integers(0, 30), st.sampled_from(HEUN))
def test_another_order_is_answered_by_the_nearest_visit_of_the_level(evaluation: int, step: int):
    found = run(HEUN).at(evaluation, SCHEDULE.at_timestep(step))
    assert found.evaluation is not None
    assert HEUN[found.evaluation] == step
    visits = [index for index, visited in enumerate(HEUN) if visited == step]
    assert abs(found.evaluation - evaluation) == min(abs(visit - evaluation) for visit in visits)


def test_rounding_of_sigma_is_the_same_level():
    level = SCHEDULE.at_timestep(700)
    near = SCHEDULE.at_sigma(level.sigma * (1 + 2e-5))
    assert run(HEUN).at(1, near).evaluation == 1


@given(st.integers(0, 10), st.floats(101, 899))
def test_between_two_levels_the_ve_latent_is_linear_in_sigma(evaluation: int, timestep: float):
    steps = [900, 400, 100]
    made, level = run(steps), SCHEDULE.at_timestep(timestep)
    found = made.at(evaluation, level)
    if found.evaluation is not None:
        assert abs(steps[found.evaluation] - timestep) < 1
        return
    above, below = (0, 1) if timestep > 400 else (1, 2)
    top, bottom = made.levels[above], made.levels[below]
    share = (level.sigma - bottom.sigma) / (top.sigma - bottom.sigma)
    expected = (1 - share) * ve(made.latents[below], bottom) + share * ve(made.latents[above], top)
    assert torch.allclose(ve(found.latents, level), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("timestep", "end"), [(999, 0), (1, 6)])
def test_beyond_the_ends_is_the_end(timestep: int, end: int):
    found = run(HEUN).at(3, SCHEDULE.at_timestep(timestep))
    assert HEUN[found.evaluation or 0] == HEUN[end]


def test_precision_and_memory():
    made = run(HEUN)
    half = Trace(made.levels, made.latents.half(), made.clean)
    assert half.at(0, half.levels[0]).latents.dtype is torch.float16
    assert made.nbytes == (len(HEUN) + 1) * 4 * 3 * 2 * 4
    made.picture = torch.zeros(1, 24, 16, 3, dtype=torch.uint8)
    assert made.nbytes == (len(HEUN) + 1) * 4 * 3 * 2 * 4 + 24 * 16 * 3


@pytest.mark.parametrize(
    ("levels", "latents", "clean"),
    [(0, (0, 1, 4, 3, 2), (1, 4, 3, 2)), (2, (3, 1, 4, 3, 2), (1, 4, 3, 2)), (2, (2, 1, 4, 3, 2), (2, 4, 3, 2))],
)
def test_what_does_not_fit_together_is_refused(levels: int, latents: tuple[int, ...], clean: tuple[int, ...]):
    found = [SCHEDULE.at_timestep(100 * index) for index in range(levels)]
    with pytest.raises(TrajectoryError, match="one latent an evaluation"):
        Trace(found, torch.zeros(latents), torch.zeros(clean))
