"""The fast rule: the UNet is asked at every third level, and the latents of the others are found on the way."""

import itertools
import math

import pytest
import torch

from ditail_ext.core import InversionRule, Level, NoiseSchedule, Prompts, invert, sample
from ditail_ext.core.levels.schedule import MIN_ALPHA_BAR
from ditail_ext.core.trajectories.inversion import FAST_STRIDE, stretches

SD = NoiseSchedule.stable_diffusion()
COND = torch.zeros(1, 77, 8)
TERMINAL = Level(999, MIN_ALPHA_BAR)
FAST = InversionRule.FAST


def picture():
    return torch.randn(2, 4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def karras(steps):
    low, high = (SD.at_timestep(t).sigma ** (1 / 7) for t in (0, 999))
    return [SD.at_sigma((low + index / (steps - 1) * (high - low)) ** 7) for index in range(steps)]


LEVELS = {"ddim": SD.ddim_levels(20)[::-1], "fifty": SD.ddim_levels(50)[::-1], "karras": karras(20)}


def network(latent, level, cond):
    """A smooth network that depends on everything."""
    mixed = latent.flip(-1) + 0.3 * latent.roll(1, -2)
    return torch.tanh(0.6 * latent + 0.4 * mixed + level.timestep / 1000) + 0.1 * cond.mean()


def round_trip(levels, **options):
    """Relative error of inverting and sampling back, in float32 as the trajectory is kept."""
    z0 = picture()
    start = invert(network, z0, levels, COND, **options).start
    back = sample(network, start, levels[::-1], Prompts(COND, COND, COND), cfg_scale=1.0)
    return float((back - z0).norm() / z0.norm())


@pytest.mark.parametrize("number", range(1, 12))
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("terminal", [False, True])
def test_stretches_hold_every_level_once_and_end_at_the_noisiest(number, stride, terminal):
    levels = SD.ddim_levels(number)[::-1]
    levels = [*levels[:-1], TERMINAL] if terminal else levels
    found = stretches(levels, stride)
    assert [level for stretch in found for level in stretch] == levels
    assert len(found[0]) == 1
    assert all(1 <= len(stretch) <= stride for stretch in found)
    assert all(len(stretch) == 1 for stretch in found if stretch[-1].is_terminal)
    asked = number - 1 - (terminal and number > 1)
    assert len(found) == 1 + math.ceil(asked / stride) + (terminal and number > 1)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("refinements", [0, 1])
def test_calls(levels, refinements, probe):
    predict = probe(network)
    trajectory = invert(predict, picture(), levels, COND, rule=FAST, refinements=refinements)
    asked = [stretch[-1] for stretch in stretches(levels, FAST_STRIDE)]
    assert trajectory.levels[1:] == tuple(levels)
    assert len(predict.calls) == len(asked) * (1 + refinements)
    assert [level for level, _ in itertools.groupby(call.level for call in predict.calls)] == asked


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_constant_noise_leads_to_every_level_exactly(levels):
    z0, noise = picture(), torch.randn(2, 4, 6, 5, dtype=torch.float64)
    trajectory = invert(lambda *_: noise, z0, levels, COND, rule=FAST)
    for level, latent in zip(levels, trajectory.latents[1:], strict=True):
        assert torch.allclose(latent.double(), level.signal * z0 + level.noise * noise, atol=1e-5)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_noise_that_turns_evenly_is_found_between_the_levels(levels):
    """Where the estimate is linear in the angle, the latents are those of asking at every level."""
    one, other = picture(), picture().flip(0)

    def turning(latent, level, cond):
        return torch.lerp(one, other, math.atan(level.sigma))

    every = invert(turning, picture(), levels, COND, rule="warm start").latents
    fast = invert(turning, picture(), levels, COND, rule=FAST).latents
    assert torch.allclose(fast, every, atol=1e-5)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_returns_closer_than_the_authors_rule_with_a_smooth_network(levels):
    assert round_trip(levels, rule=FAST) < round_trip(levels)


def test_two_levels_and_a_terminal_one():
    levels = [SD.at_timestep(300), TERMINAL]
    fast = invert(network, picture(), levels, COND, rule=FAST).latents
    authors = invert(network, picture(), levels, COND).latents
    assert torch.equal(fast, authors)
