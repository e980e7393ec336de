import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ditail_ext.core import Level, NoiseSchedule, SourceTrajectory, invert, ve_to_vp, vp_to_ve
from ditail_ext.errors import DitailError, TrajectoryError

SD = NoiseSchedule.stable_diffusion()
LEVELS = SD.ddim_levels(8)[::-1]


def network(latent, level, cond):
    return torch.tanh(latent + level.timestep / 500)


def make(rows=2):
    z0 = torch.randn(rows, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    return invert(network, z0, LEVELS, torch.zeros(1, 77, 8))


TRAJECTORY = make()


@pytest.mark.parametrize("index", range(len(LEVELS) + 1))
def test_stored_levels_come_back_bit_for_bit(index):
    assert torch.equal(TRAJECTORY.at(TRAJECTORY.levels[index]), TRAJECTORY.latents[index])


@pytest.mark.parametrize("index", range(1, len(LEVELS) + 1))
@pytest.mark.parametrize("error", [-5e-5, 5e-5])
def test_levels_within_float_error_are_the_stored_ones(index, error):
    sigma = TRAJECTORY.levels[index].sigma * (1 + error)
    assert torch.equal(TRAJECTORY.at(SD.at_sigma(sigma)), TRAJECTORY.latents[index])


@given(st.integers(0, len(LEVELS) - 1), st.floats(0.01, 0.99))
def test_between_levels_it_is_the_inversion_s_own_straight_path_in_ve(index, share):
    low, high = TRAJECTORY.levels[index], TRAJECTORY.levels[index + 1]
    below = vp_to_ve(TRAJECTORY.latents[index].double(), low)
    above = vp_to_ve(TRAJECTORY.latents[index + 1].double(), high)
    euler = (above - below) / (high.sigma - low.sigma)
    level = SD.at_sigma(low.sigma + share * (high.sigma - low.sigma))
    expected = ve_to_vp(below + (level.sigma - low.sigma) * euler, level)
    assert torch.allclose(TRAJECTORY.at(level).double(), expected, atol=1e-6)


def test_a_finer_inversion_with_the_same_estimates_passes_through_the_interpolation():
    noise = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(5))
    z0 = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(6))
    cond = torch.zeros(1, 77, 8)
    coarse = invert(lambda *_: noise, z0, LEVELS[1::2], cond)
    fine = invert(lambda *_: noise, z0, LEVELS, cond)
    for index, level in enumerate(fine.levels):
        assert torch.allclose(coarse.at(level), fine.latents[index], atol=1e-6)


@pytest.mark.parametrize("factor", [1.001, 1.5])
def test_above_the_noisiest_level(factor):
    with pytest.raises(TrajectoryError, match="invert along the sampler's own levels"):
        TRAJECTORY.at(SD.at_sigma(TRAJECTORY.levels[-1].sigma * factor))


def test_below_the_clean_level():
    clean = SD.at_timestep(0)
    trajectory = invert(network, torch.ones(1, 4, 6, 5), LEVELS, torch.zeros(1, 77, 8), clean=clean)
    assert torch.equal(trajectory.at(clean), trajectory.clean)
    for level in (Level.clean(), SD.at_sigma(clean.sigma * 0.9)):
        with pytest.raises(TrajectoryError):
            trajectory.at(level)


def test_terminal_levels_interpolate_finitely():
    schedule = SD.zero_terminal_snr()
    levels = [schedule.at_timestep(t) for t in (1, 500, 981, 999)]
    trajectory = invert(lambda latent, *_: latent, torch.randn(1, 4, 6, 5), levels, torch.zeros(1, 77, 8))
    for sigma in (1.0, 100.0, 300.0, 4500.0):
        at = trajectory.at(schedule.at_sigma(sigma))
        assert at.isfinite().all()
        assert at.abs().max() < 20


def test_properties():
    assert TRAJECTORY.batch_size == 2
    assert torch.equal(TRAJECTORY.clean, TRAJECTORY.latents[0])
    assert torch.equal(TRAJECTORY.start, TRAJECTORY.latents[-1])
    assert TRAJECTORY.at(TRAJECTORY.levels[3]).shape == (2, 4, 6, 5)
    moved = TRAJECTORY.to("cpu")
    assert moved.levels == TRAJECTORY.levels
    assert torch.equal(moved.latents, TRAJECTORY.latents)


def test_refusals():
    latents, levels = torch.zeros(3, 1, 4, 6, 5), LEVELS[:3]
    for wrong_levels, wrong_latents in [
        (levels[:2], latents),
        (levels, latents[:2]),
        (levels[:1], latents[:1]),
        (levels, latents[:, 0]),
        (levels[::-1], latents),
        ([levels[0], levels[0], levels[1]], latents),
    ]:
        with pytest.raises(TrajectoryError) as caught:
            SourceTrajectory(wrong_levels, wrong_latents)
        assert isinstance(caught.value, DitailError)
    assert SourceTrajectory(levels, latents).batch_size == 1
    assert all(low.sigma < high.sigma for low, high in itertools.pairwise(levels))
