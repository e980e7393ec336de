"""Several models in step with the target's DDIM run."""

import pytest
import torch

from ditail_ext.core import (
    Aggregation,
    Companion,
    Companions,
    Injection,
    Prediction,
    Pull,
    ReleasedMix,
    Slerp,
    Window,
    guided_noise,
    ldm_noise_predictor,
    move,
    sample,
    to_epsilon,
)
from ditail_ext.errors import AggregationError

STEPS = 6


def beside(pair, weight, window, companion=None, **more):
    aggregation = Aggregation(Slerp.beside_target([weight]), window)
    return Companions(aggregation, [companion or pair.companion], pair.schedule, **more)


def test_a_companion_without_weight_changes_nothing(pair):
    merged = pair.sample(STEPS, companions=beside(pair, 0.0, Window(0, 3)))
    assert torch.allclose(merged, pair.sample(STEPS), atol=1e-4)


def test_a_companion_with_all_the_weight_in_all_steps_is_the_picture(pair):
    merged = pair.sample(STEPS, companions=beside(pair, 1.0, Window(0, STEPS)))
    assert torch.allclose(merged, pair.alone(STEPS), atol=1e-4)
    assert (merged - pair.sample(STEPS)).abs().max() > 0.1


def test_steps_are_merged_in_the_window_alone(pair):
    """Written out once more: each model's own move, slerp after steps 1 and 2, then the target alone."""
    rule, window = Slerp((0.6, 0.4)), Window(1, 3)
    levels = [*pair.schedule.ddim_levels(STEPS)]
    first, second = pair.start, pair.start
    for step, (level, below) in enumerate(zip(levels, [*levels[1:], pair.schedule.at_timestep(0)], strict=True)):
        first = move(first, level, below, pair.estimates[0](first, level))
        if step < window.stop:
            second = move(second, level, below, pair.estimates[1](second, level))
        if step in window:
            first = second = rule([first, second])
    clean = pair.schedule.at_timestep(0)
    merged = pair.sample(STEPS, companions=beside(pair, 0.4, window), clean=clean)
    assert torch.allclose(merged, first, atol=1e-4)


def test_the_norm_is_kept_through_the_window(pair):
    """Against the weighted mean of the norms that the models' own moves would have."""
    norms = []

    class Noted(Slerp):
        def __call__(self, latents):
            merged = super().__call__(latents)
            parts = [latent.flatten(1).norm(dim=1) for latent in latents]
            norms.append(merged.flatten(1).norm(dim=1) / (0.5 * parts[0] + 0.5 * parts[1]))
            return merged

    companions = Companions(Aggregation(Noted((0.5, 0.5)), Window(0, 4)), [pair.companion], pair.schedule)
    pair.sample(STEPS, companions=companions)
    assert len(norms) == 4
    assert all(0.98 < ratio < 1.02 for step in norms for ratio in step)


def test_it_costs_the_window_and_gives_the_companions_back(pair, probe):
    target, other = (probe(predict) for predict in pair.predicts)
    released = []
    estimate = guided_noise(other, pair.prompts[1], cfg_scale=2.0)
    companions = beside(
        pair, 0.5, Window(0, 4), Companion(estimate), release=lambda: released.append(len(other.calls))
    )
    levels = pair.schedule.ddim_levels(20)
    sample(target, pair.start, levels, pair.prompts[0], cfg_scale=2.0, companions=companions)
    assert released == [4]
    rows = sum(len(call.latent) for call in target.calls + other.calls)
    assert rows == 1.2 * 20 * 2 * len(pair.start)
    assert [call.level for call in other.calls] == levels[:4]


def test_each_image_of_a_batch_is_as_alone(pair):
    together = pair.sample(STEPS, companions=beside(pair, 0.5, Window(0, 3)))
    for at in range(2):
        alone = pair.sample(STEPS, companions=beside(pair, 0.5, Window(0, 3)), start=pair.start[at : at + 1])
        assert torch.allclose(together[at : at + 1], alone, atol=1e-4)


def test_own_noise_is_the_companion_s(pair):
    other = torch.randn(pair.start.shape, generator=torch.Generator().manual_seed(9))
    own = pair.sample(STEPS, companions=beside(pair, 0.5, Window(0, 3), Companion(pair.estimates[1], other)))
    shared = pair.sample(STEPS, companions=beside(pair, 0.5, Window(0, 3)))
    assert (own - shared).abs().max() > 0.1


def test_a_companion_that_predicts_v_is_converted(pair, unets):
    """The same network, its output dressed as v, merges as if it had said epsilon."""

    class SpeaksV(torch.nn.Module):
        def forward(self, latent, timesteps, context):
            level = pair.schedule.at_timestep(float(timesteps[0]))
            epsilon = unets.source(latent, timesteps=timesteps, context=context)
            return (epsilon - level.noise * latent) / level.signal

    level, latent = pair.schedule.at_timestep(801), pair.start
    assert torch.allclose(to_epsilon(Prediction.V, torch.zeros_like(latent), latent, level), level.noise * latent)
    speaks_v = guided_noise(ldm_noise_predictor(SpeaksV(), Prediction.V), pair.prompts[1], cfg_scale=2.0)
    as_v = pair.sample(STEPS, companions=beside(pair, 0.5, Window(0, 3), Companion(speaks_v)))
    assert torch.allclose(as_v, pair.sample(STEPS, companions=beside(pair, 0.5, Window(0, 3))), atol=1e-3)


def test_with_injection_the_features_go_into_the_target_alone(scene, pair, probe):
    """From the inverted latent, both at once; a UNet that the injection does not know computes what it always did."""
    other = probe(pair.predicts[1])
    windows = {"feature_window": Window(0, 3), "attention_window": Window(0, 2)}

    def run(injected, weight):
        companions = beside(pair, weight, Window(0, 2), Companion(guided_noise(other, pair.prompts[1], cfg_scale=2.0)))
        options = {"cfg_scale": 2.0, "companions": companions}
        if not injected:
            return sample(scene.predict, scene.one.start, scene.levels, scene.prompts, **options)
        with Injection(scene.target, **windows) as injection:
            options |= {"trajectory": scene.one, "injection": injection}
            return sample(scene.predict, scene.one.start, scene.levels, scene.prompts, **options)

    alone, both = run(False, 0.5), run(True, 0.5)
    first_alone, first_both = other.calls[0], other.calls[2]
    assert torch.equal(first_alone.epsilon, first_both.epsilon)
    with Injection(scene.target, **windows) as injection:
        injected = sample(
            scene.predict, scene.one.start, scene.levels, scene.prompts,
            cfg_scale=2.0, trajectory=scene.one, injection=injection,
        )  # fmt: skip
    assert torch.allclose(run(True, 0.0), injected, atol=1e-3)
    assert min((both - alone).abs().max(), (both - injected).abs().max()) > 1e-2


def test_a_pull_never_merges_after_the_first_step(pair):
    """There is no estimate before it, as in the released code."""
    rule = ReleasedMix((0.5,))
    rules = [Aggregation(rule, Window(at, 3), Pull((50, 45))) for at in (0, 1)]
    zero, one = (
        pair.sample(STEPS, companions=Companions(aggregation, [pair.companion], pair.schedule))
        for aggregation in rules
    )
    assert torch.equal(zero, one)


def test_what_does_not_fit_is_refused(pair):
    aggregation = Aggregation(Slerp((0.4, 0.3, 0.3)), Window(0, 2))
    with pytest.raises(AggregationError, match="weights of 3 models for 2; give one for each"):
        Companions(aggregation, [pair.companion], pair.schedule)
    with pytest.raises(AggregationError, match="begins after step 6, but there are only 6 steps; begin earlier"):
        pair.sample(STEPS, companions=beside(pair, 0.5, Window(STEPS, STEPS + 1)))
    wide = Companion(lambda latent, level: latent, torch.zeros(2, 16, 16, 16))
    with pytest.raises(AggregationError, match="Latents of 2x4x16x16 and 2x16x16x16 cannot be merged"):
        pair.sample(STEPS, companions=beside(pair, 0.5, Window(0, 2), wide))
