"""The reference sampler, with and without injection."""

import pytest
import torch

from ditail_ext.core import Injection, NoiseSchedule, Prompts, Window, invert, ldm_noise_predictor, mix, move, sample
from ditail_ext.errors import ConditioningError, ScheduleError, TrajectoryError

SHUT = Window(0, 0)
OPEN = Window(0, 3)


def run(scene, predict=None, start=None, injection=None, trajectory=None, **options):
    start = scene.one.start if start is None else start
    common = {"cfg_scale": 5.0, "trajectory": trajectory, "injection": injection, **options}
    return sample(predict or scene.predict, start, scene.levels, scene.prompts, **common)


def ditail(scene, trajectory=None, windows=(OPEN, OPEN), **options):
    trajectory = trajectory or scene.one
    options.setdefault("start", trajectory.start)
    with Injection(scene.target, feature_window=windows[0], attention_window=windows[1]) as injection:
        return run(scene, injection=injection, trajectory=trajectory, **options)


def test_ratios_of_zero_are_plain_sampling_bit_for_bit(scene, probe):
    plain, predict = probe(scene.predict), probe(scene.predict)
    expected = run(scene, plain)
    assert torch.equal(ditail(scene, windows=(SHUT, SHUT), predict=predict), expected)
    assert len(predict.calls) == len(plain.calls) == len(scene.levels)


def test_each_kind_of_injection_changes_the_picture(scene):
    outputs = [run(scene), *[ditail(scene, windows=w) for w in ((OPEN, SHUT), (SHUT, OPEN), (OPEN, OPEN))]]
    for index, first in enumerate(outputs):
        for second in outputs[index + 1 :]:
            assert (first - second).abs().max() > 1e-2


def test_each_picture_of_a_batch_is_the_same_alone(scene):
    together = ditail(scene, scene.three)
    for row in range(3):
        alone = type(scene.three)(scene.three.levels, scene.three.latents[:, row : row + 1])
        assert torch.allclose(together[row : row + 1], ditail(scene, alone), atol=1e-4 * float(together.abs().max()))
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_one_prompt_for_each_picture(scene):
    prompts = Prompts(
        *(torch.cat([c, c.flip(1), c * 0.5]) for c in (scene.prompts.positive, scene.prompts.negative)),
        scene.prompts.empty,
    )
    common = {"cfg_scale": 5.0}
    together = sample(scene.predict, scene.three.start, scene.levels, prompts, **common)
    for row in range(3):
        own = Prompts(prompts.positive[row : row + 1], prompts.negative[row : row + 1], prompts.empty)
        alone = sample(scene.predict, scene.three.start[row : row + 1], scene.levels, own, **common)
        assert torch.allclose(together[row : row + 1], alone, atol=1e-4 * float(together.abs().max()))
    with pytest.raises(ConditioningError):
        sample(scene.predict, scene.three.start[:2], scene.levels, prompts, **common)


def test_prompts_in_calls_of_their_own_give_the_same(scene, probe, in_two_calls):
    predict = probe(scene.predict)
    start = scene.three.start
    split = ditail(scene, scene.one, start=start, predict=in_two_calls(predict, 3))
    whole = ditail(scene, scene.one, start=start)
    assert torch.allclose(split, whole, atol=1e-4 * float(whole.abs().max()))
    assert [len(call.latent) for call in predict.calls[:3]] == [1, 3, 3]
    assert len(predict.calls) == 3 * len(scene.levels)


def test_prompts_of_unequal_length(scene):
    long = torch.cat([scene.prompts.positive, scene.prompts.empty], dim=1)
    prompts = Prompts(long, scene.prompts.negative, scene.prompts.empty)
    filled = Prompts(long, torch.cat([scene.prompts.negative, scene.prompts.empty], dim=1), scene.prompts.empty)
    outputs = [sample(scene.predict, scene.one.start, scene.levels, p, cfg_scale=5.0) for p in (prompts, filled)]
    assert torch.equal(*outputs)


def test_guidance_and_moves_are_the_paper_s(scene, probe):
    """Two steps by hand."""
    generator = torch.Generator().manual_seed(1)
    table = {key: torch.randn(1, 4, 16, 16, generator=generator) for key in ("positive", "negative")}
    prompts = Prompts(torch.ones(1, 7, 2), torch.zeros(1, 7, 2), torch.full((1, 7, 2), 9.0))

    def predict(latent, level, cond):
        return torch.cat([table["positive"] if row.max() == 1 else table["negative"] for row in cond])

    high, low = scene.levels[:2]
    clean, start = scene.levels[2], torch.randn(1, 4, 16, 16, generator=generator)
    result = sample(predict, start, [high, low], prompts, cfg_scale=7.5, clean=clean)
    guided = table["negative"] + 7.5 * (table["positive"] - table["negative"])
    assert torch.allclose(result, move(move(start, high, low, guided), low, clean, guided), atol=1e-5)


def test_scale_one_evaluates_the_positive_prompt_only(scene, probe):
    predict = probe(scene.predict)
    result = run(scene, predict, cfg_scale=1.0)
    assert all(torch.equal(call.cond, scene.prompts.positive) for call in predict.calls)
    assert len(predict.calls) == len(scene.levels)
    both = run(scene, cfg_scale=1.0 + 1e-7)
    assert torch.allclose(result, both, atol=1e-4)


def test_source_is_target_returns_the_source_within_the_round_trip_error(unets, scene):
    """Positive scale 1, negative scale 0, CFG 1, ratios 1: injection does not make the round trip worse.

    The estimate is scaled down: a random network is no denoiser, and its own round trip would be too wide.
    """
    network = ldm_noise_predictor(unets.source)
    levels, prompt = NoiseSchedule.stable_diffusion().ddim_levels(6), scene.prompts.positive
    cond, picture = mix(prompt, scene.prompts.negative, 1.0, 0.0), scene.one.clean

    def predict(latent, level, cond):
        return 0.3 * network(latent, level, cond)

    trajectory = invert(predict, picture, levels[::-1], cond, refinements=2)

    def error(window, injected=True):
        prompts = Prompts(prompt, scene.prompts.negative, prompt)
        with Injection(unets.source, feature_window=window, attention_window=window) as injection:
            source = {"trajectory": trajectory, "injection": injection} if injected else {}
            back = sample(predict, trajectory.start, levels, prompts, cfg_scale=1.0, **source)
        return float((back - picture).norm() / picture.norm())

    plain, moved = error(SHUT, injected=False), float((trajectory.start - picture).norm() / picture.norm())
    assert plain < 0.2 < 0.5 < moved
    assert error(SHUT) == plain
    assert error(Window(0, 6)) <= 1.02 * plain


def test_progress_and_stopping(scene):
    told = []
    result = run(scene, on_step=lambda *a: told.append(a))
    assert [(step, steps, level) for step, steps, level, _ in told] == [
        (step, 3, level) for step, level in enumerate(scene.levels)
    ]
    assert torch.equal(told[-1][3], result)

    def stop(step, *_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(scene, on_step=stop)


def test_refusals(scene, probe):
    predict = probe(scene.predict)
    with pytest.raises(ScheduleError):
        sample(predict, scene.one.start, [], scene.prompts, cfg_scale=5.0)
    with Injection(scene.target, feature_window=OPEN, attention_window=OPEN) as injection:
        with pytest.raises(ScheduleError, match="invert the picture first"):
            run(scene, predict, injection=injection)
        with pytest.raises(ScheduleError, match="3 source pictures for 2"):
            run(scene, predict, start=scene.three.start[:2], injection=injection, trajectory=scene.three)
        lower = type(scene.one)(scene.one.levels[:-1], scene.one.latents[:-1])
        with pytest.raises(TrajectoryError, match="sampler's own levels"):
            run(scene, predict, injection=injection, trajectory=lower)
    assert not predict.calls
