import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ditail_ext.core import Level, NoiseSchedule, Window, move, ve_to_vp, vp_to_ve
from ditail_ext.core.levels.schedule import MIN_ALPHA_BAR, require_rising
from ditail_ext.errors import ScheduleError

SD = NoiseSchedule.stable_diffusion()
alpha_bars = st.floats(MIN_ALPHA_BAR, 1.0)
latents = st.lists(st.floats(-5, 5), min_size=2, max_size=2).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


@pytest.mark.parametrize(
    ("timestep", "sigma"),
    [(1, 0.041), (21, 0.142), (201, 0.574), (401, 1.168), (601, 2.293), (801, 5.134), (981, 13.12)],
)
def test_stable_diffusion_sigmas(timestep, sigma):
    assert SD.at_timestep(timestep).sigma == pytest.approx(sigma, rel=0.01)


def test_stable_diffusion_ends():
    assert SD.at_timestep(0).sigma == pytest.approx(0.0292, abs=5e-5)
    assert SD.at_timestep(999).sigma == pytest.approx(14.615, abs=5e-4)
    assert SD.at_timestep(0).alpha_bar == pytest.approx(1 - 0.00085, abs=1e-12)
    assert SD.at_timestep(999).alpha_bar == pytest.approx(0.00466, abs=5e-6)


def test_the_authors_fifty_levels():
    levels = SD.ddim_levels(50)
    assert [level.timestep for level in levels] == list(range(981, 0, -20))
    assert all(level == SD.at_timestep(level.timestep) for level in levels)


@given(st.integers(1, 999))
def test_ddim_levels_of_any_number_of_steps(steps):
    levels = SD.ddim_levels(steps)
    assert len(levels) == steps
    require_rising(levels[::-1], Level.clean())


@given(st.floats(0, 999))
def test_timestep_and_sigma_are_inverse(timestep):
    level = SD.at_timestep(timestep)
    again = SD.at_sigma(level.sigma)
    assert again.timestep == pytest.approx(timestep, abs=1e-6)
    assert again.alpha_bar == pytest.approx(level.alpha_bar, rel=1e-9)


@given(st.floats(1e-3, 100.0))
def test_at_sigma_has_that_sigma_and_a_timestep_within_the_schedule(sigma):
    level = SD.at_sigma(sigma)
    assert level.sigma == pytest.approx(sigma, rel=1e-6)
    assert 0 <= level.timestep <= 999
    if SD.at_timestep(0).sigma <= sigma <= SD.at_timestep(999).sigma:
        assert SD.at_timestep(level.timestep).sigma == pytest.approx(sigma, rel=1e-6)


def test_between_whole_timesteps_log_sigma_is_linear():
    low, middle, high = (math.log(SD.at_timestep(t).sigma) for t in (400, 400.25, 401))
    assert middle == pytest.approx(0.75 * low + 0.25 * high, rel=1e-12)


def test_sigma_zero_is_the_clean_level():
    assert SD.at_sigma(0) == Level.clean()
    assert Level.clean().sigma == 0


def test_zero_terminal_snr_is_finite_and_the_webui_s():
    schedule = SD.zero_terminal_snr()
    assert schedule.at_timestep(999).alpha_bar == MIN_ALPHA_BAR
    assert schedule.at_timestep(999).is_terminal
    assert not schedule.at_timestep(981).is_terminal
    assert schedule.at_timestep(999).sigma == pytest.approx(4518.8, rel=1e-3)
    assert schedule.at_timestep(998).sigma == pytest.approx(2254, rel=1e-3)
    assert schedule.at_timestep(981).sigma == pytest.approx(120.5, rel=1e-3)
    assert schedule.at_timestep(0).alpha_bar == pytest.approx(SD.at_timestep(0).alpha_bar, rel=1e-12)
    assert schedule.at_sigma(1e9).alpha_bar == MIN_ALPHA_BAR


@given(alpha_bars, latents)
def test_vp_and_ve_are_inverse_scalings(alpha_bar, latent):
    level = Level(1.0, alpha_bar)
    assert torch.allclose(ve_to_vp(vp_to_ve(latent, level), level), latent, rtol=1e-12)
    assert torch.allclose(vp_to_ve(latent, level), latent * math.sqrt(1 + level.sigma**2), rtol=1e-9)


@given(alpha_bars, alpha_bars, latents, latents)
def test_move_is_ddim_s_step_through_the_clean_estimate(origin, destination, latent, epsilon):
    here, there = Level(0.0, origin), Level(1.0, destination)
    clean = (latent - math.sqrt(1 - origin) * epsilon) / math.sqrt(origin)
    expected = math.sqrt(destination) * clean + math.sqrt(1 - destination) * epsilon
    scale = 1 + math.sqrt(destination / origin)
    assert torch.allclose(move(latent, here, there, epsilon), expected, rtol=1e-9, atol=1e-11 * scale)


@given(st.floats(0, 200), st.floats(0, 200), latents, latents)
def test_move_is_euler_s_step_on_sigma_in_ve(here, there, latent, epsilon):
    origin, destination = SD.at_sigma(here), SD.at_sigma(there)
    moved = vp_to_ve(move(ve_to_vp(latent, origin), origin, destination, epsilon), destination)
    assert torch.allclose(moved, latent + (there - here) * epsilon, rtol=1e-6, atol=1e-5)


@given(alpha_bars, alpha_bars, latents, latents)
def test_move_back_with_the_same_estimate_returns(origin, destination, latent, epsilon):
    here, there = Level(0.0, origin), Level(1.0, destination)
    returned = move(move(latent, here, there, epsilon), there, here, epsilon)
    assert torch.allclose(returned, latent, atol=1e-12 * (1 + here.signal / there.signal))


@pytest.mark.parametrize(
    ("ratio", "steps", "stop"),
    [(0.5, 50, 25), (0.8, 50, 40), (0.29, 100, 29), (0.57, 100, 57), (0.0, 50, 0), (1.0, 50, 50), (0.5, 7, 3)],
)
def test_window_of_a_ratio(ratio, steps, stop):
    window = Window.from_ratio(ratio, steps)
    assert [step for step in range(-2, steps + 2) if step in window] == list(range(stop))


@given(st.integers(1, 150), st.integers(0, 100))
def test_window_of_whole_percents_is_exact_integer_arithmetic(steps, percent):
    assert Window.from_ratio(percent / 100, steps).stop == percent * steps // 100


def test_refusals():
    low, high = SD.at_timestep(1), SD.at_timestep(500)
    refused = [
        lambda: Level(0.0, 0.0),
        lambda: Level(0.0, -0.1),
        lambda: Level(0.0, 1.1),
        lambda: Level(0.0, float("nan")),
        lambda: Level(float("inf"), 0.5),
        lambda: NoiseSchedule(torch.ones(10, 2)),
        lambda: NoiseSchedule(torch.tensor([0.9])),
        lambda: NoiseSchedule(torch.tensor([0.5, 0.9])),
        lambda: NoiseSchedule(torch.tensor([0.5, 0.5, 0.4])),
        lambda: NoiseSchedule(torch.tensor([1.5, 0.5])),
        lambda: NoiseSchedule(torch.tensor([0.9, float("nan")])),
        lambda: SD.at_timestep(-1),
        lambda: SD.at_timestep(999.5),
        lambda: SD.at_sigma(-1.0),
        lambda: SD.at_sigma(float("inf")),
        lambda: SD.at_sigma(float("nan")),
        lambda: SD.ddim_levels(0),
        lambda: SD.ddim_levels(1000),
        lambda: Window.from_ratio(1.01, 10),
        lambda: Window.from_ratio(-0.01, 10),
        lambda: Window.from_ratio(float("nan"), 10),
        lambda: require_rising([], Level.clean()),
        lambda: require_rising([high, low], Level.clean()),
        lambda: require_rising([low, low], Level.clean()),
        lambda: require_rising([low, high], SD.at_timestep(100)),
    ]
    for number, make in enumerate(refused):
        with pytest.raises(ScheduleError, match=r"\.$"):
            pytest.fail(f"accepted: number {number}, {make()}")
