"""v-prediction, zero terminal SNR, and the call that a UNet gets."""

import pytest
import torch
from torch import nn

from ditail_ext.core import (
    InversionRule,
    NoiseSchedule,
    Prediction,
    Prompts,
    invert,
    ldm_noise_predictor,
    sample,
    to_epsilon,
)

SD = NoiseSchedule.stable_diffusion()
COND = torch.zeros(1, 77, 8)
PROMPTS = Prompts(COND, COND, COND)


def picture(rows=2, seed=0):
    return torch.randn(rows, 4, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def epsilon_network(latent, level, cond):
    return torch.tanh(0.7 * latent + level.timestep / 1000)


def as_v(network):
    """The v network that means exactly what an epsilon network says: v = (e - s x) / a."""

    def predict_v(latent, level, cond):
        return (network(latent, level, cond) - level.noise * latent) / level.signal

    return predict_v


def epsilon_of(predict_v):
    return lambda latent, level, cond: to_epsilon(Prediction.V, predict_v(latent, level, cond), latent, level)


@pytest.mark.parametrize("rule", InversionRule)
def test_v_prediction_is_epsilon_prediction_converted(rule):
    levels = SD.ddim_levels(10)
    expected = invert(epsilon_network, picture(), levels[::-1], COND, rule=rule)
    converted = invert(epsilon_of(as_v(epsilon_network)), picture(), levels[::-1], COND, rule=rule)
    assert torch.allclose(converted.latents, expected.latents, atol=1e-6)
    back = sample(epsilon_network, expected.start, levels, PROMPTS, cfg_scale=1.0)
    again = sample(epsilon_of(as_v(epsilon_network)), expected.start, levels, PROMPTS, cfg_scale=1.0)
    assert torch.allclose(again, back, atol=1e-5)


def test_epsilon_is_passed_through_and_v_has_the_known_identities():
    level, clean, noise = SD.at_timestep(400), picture(), picture(seed=1)
    noisy = level.signal * clean + level.noise * noise
    v = level.signal * noise - level.noise * clean
    assert torch.equal(to_epsilon(Prediction.EPSILON, v, noisy, level), v)
    assert torch.allclose(to_epsilon(Prediction.V, v, noisy, level), noise, atol=1e-12)


def gaussian_v(deviation):
    """The exact v network of pictures whose values are normal with a deviation."""

    def predict_v(latent, level, cond):
        a, s = level.signal, level.noise
        clean = latent * a * deviation**2 / (a**2 * deviation**2 + s**2)
        return (a * latent - clean) / s

    return predict_v


@pytest.mark.parametrize("rule", InversionRule)
@pytest.mark.parametrize("deviation", [0.7, 1.0])
def test_zero_terminal_snr_stays_finite_with_unit_deviation(rule, deviation):
    schedule = NoiseSchedule.stable_diffusion().zero_terminal_snr()
    levels = [schedule.at_timestep(999), *schedule.ddim_levels(50)]
    predict = epsilon_of(gaussian_v(deviation))
    trajectory = invert(predict, deviation * picture(), levels[::-1], COND, rule=rule)
    assert trajectory.latents.isfinite().all()
    assert float(trajectory.start.std()) == pytest.approx(1.0, abs=0.05)
    middle = schedule.at_sigma(1000.0)
    assert trajectory.at(middle).isfinite().all()
    back = sample(predict, trajectory.start, levels, PROMPTS, cfg_scale=1.0)
    assert back.isfinite().all()
    assert float((back - deviation * picture()).norm() / picture().norm()) < 0.1


@pytest.mark.parametrize("rule", InversionRule)
def test_terminal_level_keeps_nothing_of_the_picture(rule, probe):
    """A v network only echoes its input at the terminal level: believed there, it would leave the picture in."""
    schedule = NoiseSchedule.stable_diffusion().zero_terminal_snr()
    before, terminal = schedule.at_timestep(601), schedule.at_timestep(999)
    shown, noise = picture(rows=1), picture(rows=1, seed=1)

    def predict_v(latent, level, cond):
        if level.is_terminal:
            return level.signal * noise - level.noise * shown  # the true v, finite as a network's is
        return (noise - level.noise * latent) / level.signal

    predict = probe(epsilon_of(predict_v))
    trajectory = invert(predict, shown, [before, terminal], COND, rule=rule)
    for index, level in ((1, before), (2, terminal)):
        expected = level.signal * shown + level.noise * noise
        assert torch.allclose(trajectory.latents[index].double(), expected, atol=1e-5)
    assert terminal not in [call.level for call in predict.calls]


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, timesteps=None, context=None, y=None):
        self.calls.append((x, timesteps, context, y))
        return x.clone()


def test_ldm_s_call():
    unet, level = Recorder(), SD.at_sigma(2.0)
    latent = picture(rows=3)
    assert torch.equal(ldm_noise_predictor(unet)(latent, level, COND), latent)
    x, timesteps, context, y = unet.calls[0]
    assert x is latent
    assert timesteps.tolist() == pytest.approx([level.timestep] * 3)
    assert timesteps.dtype == torch.float32, "fractional timesteps must not be rounded"
    assert context is COND
    assert y is None


def test_ldm_s_call_with_a_dict_and_v():
    unet, level, latent = Recorder(), SD.at_timestep(500), picture()
    cond = {"crossattn": COND, "vector": torch.ones(2, 5)}
    epsilon = ldm_noise_predictor(unet, Prediction.V)(latent, level, cond)
    assert torch.allclose(epsilon, (level.signal + level.noise) * latent)
    _, _, context, y = unet.calls[0]
    assert context is COND
    assert y is cond["vector"]
    ldm_noise_predictor(unet)(latent, level, {"crossattn": COND})
    assert unet.calls[1][3] is None
