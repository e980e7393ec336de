"""What an inversion must be, whatever the network."""

import itertools

import pytest
import torch

from ditail_ext.core import InversionRule, Level, NoiseSchedule, Prompts, expand_rows, invert, move, sample
from ditail_ext.errors import ConditioningError, ScheduleError

SD = NoiseSchedule.stable_diffusion()
COND = torch.zeros(1, 77, 8)
KARRAS = [0.0292, 0.1, 0.3, 0.8, 1.9, 4.2, 8.6, 14.61]
LEVELS = {
    "ddim": SD.ddim_levels(12)[::-1],
    "karras": [SD.at_sigma(sigma) for sigma in KARRAS],
    "one": [SD.at_timestep(999)],
}
RULES = list(itertools.product(InversionRule, [0, 1, 2]))
EVERY_LEVEL = [(rule, refinements) for rule, refinements in RULES if rule is not InversionRule.FAST]


def picture(rows=2, seed=0):
    return torch.randn(rows, 4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def level_noise(latent, level, cond):
    """A network that sees the level only."""
    generator = torch.Generator().manual_seed(int(level.timestep * 1000))
    return torch.randn(latent.shape, dtype=torch.float64, generator=generator)


def network(latent, level, cond):
    """A smooth network that depends on everything."""
    mixed = latent.flip(-1) + 0.3 * latent.roll(1, -2)
    return torch.tanh(0.6 * latent + 0.4 * mixed + level.timestep / 1000) + 0.1 * cond.mean()


def double(predict, latent, levels, **options):
    """The trajectory's latents in float64, which the trajectory itself keeps in float32."""
    latents = [latent]
    invert(predict, latent, levels, COND, on_step=lambda s, n, level, now: latents.append(now.clone()), **options)
    return latents


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize(("rule", "refinements"), EVERY_LEVEL)
def test_noise_independent_of_the_latent_is_inverted_exactly(levels, rule, refinements):
    z0 = picture()
    latents = double(level_noise, z0, levels, rule=rule, refinements=refinements)
    prompts = Prompts(COND, COND, COND)
    returned = sample(level_noise, latents[-1], levels[::-1], prompts, cfg_scale=1.0)
    assert (latents[-1] - z0).abs().max() > 1, "the inversion moved nothing"
    assert torch.allclose(returned, z0, rtol=0, atol=1e-11)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_every_level_gets_the_noise_it_names(levels):
    """In VE the distance to the clean latent is sigma times unit noise, if the noise is the same throughout."""
    z0, noise = picture(), picture(seed=1)
    latents = double(lambda *_: noise, z0, levels)
    for level, latent in zip(levels, latents[1:], strict=True):
        assert torch.allclose(latent, level.signal * z0 + level.noise * noise, atol=1e-10)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_authors_rule_names_the_noisier_level_and_gives_the_latent_it_has(levels, probe):
    predict, z0 = probe(network), picture()
    latents = double(predict, z0, levels)
    assert [call.level for call in predict.calls] == levels
    for call, latent in zip(predict.calls, latents[:-1], strict=True):
        assert torch.equal(call.latent, latent)


def test_warm_start_calls_the_network_on_the_moved_latent(probe):
    levels, z0 = LEVELS["ddim"], picture()
    predict = probe(network)
    latents = double(predict, z0, levels, rule="warm start")
    first, *rest = predict.calls
    assert torch.equal(first.latent, z0)
    assert [call.level for call in (first, *rest)] == [levels[0], *levels]
    estimates = [first, *rest[:-1]]
    places = [Level.clean(), *levels]
    for call, before, latent, (here, there) in zip(
        rest, estimates, latents[:-1], itertools.pairwise(places), strict=True
    ):
        assert torch.equal(call.latent, move(latent, here, there, before.epsilon))


@pytest.mark.parametrize(("rule", "refinements"), EVERY_LEVEL)
def test_number_of_calls(rule, refinements, probe):
    predict, levels = probe(network), LEVELS["ddim"]
    invert(predict, picture(), levels, COND, rule=rule, refinements=refinements)
    first = 1 if rule is InversionRule.WARM_START else 0
    assert len(predict.calls) == len(levels) * (1 + refinements) + first


@pytest.mark.parametrize("name", ["ddim", "karras"])
def test_warm_start_and_refinements_return_closer(name):
    """Fixed-point iteration: each further one brings the round trip closer to the picture."""
    levels, z0 = LEVELS[name], picture()

    def error(**options):
        start = double(network, z0, levels, **options)[-1]
        back = sample(network, start, levels[::-1], Prompts(COND, COND, COND), cfg_scale=1.0)
        return float((back - z0).norm() / z0.norm())

    plain, warm = error(), error(rule="warm start")
    once, twice = error(refinements=1), error(refinements=2)
    assert warm < 0.7 * plain
    assert twice < 0.7 * once < 0.7 * plain


def test_each_picture_of_a_batch_is_inverted_as_alone():
    z0, levels = picture(rows=3), LEVELS["ddim"]
    cond = torch.randn(3, 77, 8, generator=torch.Generator().manual_seed(3))

    def row_network(latent, level, cond):
        return network(latent, level, COND) + cond.mean(dim=(1, 2)).view(-1, 1, 1, 1)

    together = invert(row_network, z0, levels, cond)
    for row in range(3):
        alone = invert(row_network, z0[row : row + 1], levels, cond[row : row + 1])
        assert torch.allclose(together.latents[:, row], alone.latents[:, 0], atol=1e-6)


def test_one_prompt_serves_every_picture(probe):
    predict = probe(network)
    invert(predict, picture(rows=3), LEVELS["one"], COND)
    assert predict.calls[0].cond.shape == (3, 77, 8)
    with pytest.raises(ConditioningError):
        invert(network, picture(rows=3), LEVELS["one"], expand_rows(COND, 2))


def test_trajectory_starts_at_the_clean_latent_and_level():
    z0, clean = picture(), Level(0.0, 0.99915)
    trajectory = invert(network, z0, LEVELS["ddim"], COND, clean=clean)
    assert trajectory.levels == (clean, *LEVELS["ddim"])
    assert torch.equal(trajectory.clean, z0.float())
    assert trajectory.latents.shape == (13, 2, 4, 6, 5)
    assert trajectory.latents.dtype == torch.float32


def test_half_precision_latents_are_computed_with_in_single(probe):
    predict = probe(lambda latent, level, cond: latent * 0.1)
    trajectory = invert(predict, picture().half(), LEVELS["ddim"], COND)
    assert {call.latent.dtype for call in predict.calls} == {torch.float32}
    assert trajectory.latents.dtype == torch.float32


def test_no_graph_is_kept():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    trajectory = invert(lambda latent, level, cond: weight * latent, picture(), LEVELS["ddim"], COND)
    assert not trajectory.latents.requires_grad


def test_progress():
    told, levels = [], LEVELS["ddim"]
    trajectory = invert(
        network, picture(), levels, COND, on_step=lambda *a: told.append((*a[:3], a[3].float().clone()))
    )
    assert [(step, steps, level) for step, steps, level, _ in told] == [
        (step, len(levels), level) for step, level in enumerate(levels)
    ]
    assert all(torch.equal(latent, trajectory.latents[step + 1]) for step, _, _, latent in told)


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_on_step_can_stop(stop, probe):
    predict = probe(network)

    def on_step(step, steps, level, latent):
        if step == 2:
            raise stop

    with pytest.raises(stop):
        invert(predict, picture(), LEVELS["ddim"], COND, on_step=on_step)
    assert len(predict.calls) == 3


def test_refusals(probe):
    low, high = SD.at_timestep(1), SD.at_timestep(900)
    predict = probe(network)
    for levels, options in [
        ([], {}),
        ([high, low], {}),
        ([low, low], {}),
        ([Level.clean(), low], {}),
        ([low, high], {"clean": SD.at_timestep(50)}),
        ([low, high], {"refinements": -1}),
    ]:
        with pytest.raises(ScheduleError):
            invert(predict, picture(), levels, COND, **options)
    with pytest.raises(ValueError, match="magic"):
        invert(predict, picture(), [low, high], COND, rule="magic")
    assert not predict.calls
