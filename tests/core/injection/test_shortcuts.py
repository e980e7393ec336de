"""The shortcuts leave work out and nothing else: every one equals the reference, on every layout."""

from contextlib import nullcontext

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ditail_ext.core import (
    PROFILE_NAMES,
    Injection,
    NoiseSchedule,
    Prompts,
    Region,
    Shortcut,
    Window,
    invert,
    ldm_noise_predictor,
    sample,
)
from ditail_ext.errors import InjectionError

FAST = [shortcut for shortcut in Shortcut if shortcut is not Shortcut.REFERENCE]
LEVELS = NoiseSchedule.stable_diffusion().ddim_levels(3)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(unet, shortcut, *, pictures=1, images=1, region=None, around=None, dtype=torch.float32, **more):
    def predict(latent, level, cond):
        timesteps = torch.full((len(latent),), level.timestep)
        with nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype):
            return unet(latent, timesteps=timesteps, context=[cond, cond]).float()  # ldm: one a transformer block

    trajectory = invert(predict, noise(pictures, 4, 16, 24), LEVELS[::-1], noise(1, 7, 16, seed=1))
    prompts = Prompts(noise(images, 7, 16, seed=2), noise(1, 7, 16, seed=3), noise(1, 7, 16, seed=4))
    windows = {"feature_window": Window(0, 3), "attention_window": Window(0, 2)}
    start = noise(images, 4, 16, 24, seed=5)
    with Injection(unet, region=region, shortcut=shortcut, **windows, **more) as injection:
        options = {"cfg_scale": 3.0, "trajectory": trajectory, "injection": injection}
        return sample(around(predict) if around else predict, start, LEVELS, prompts, **options)


def distance(one, other):
    return float((one - other).norm() / other.norm())


def error(unet, shortcut, **options):
    """How far a shortcut is from the reference of the same options."""
    return distance(run(unet, shortcut, **options), run(unet, Shortcut.REFERENCE, **options))


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize(("pictures", "images"), [(1, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("shortcut", FAST)
def test_equals_the_reference(make_unet, in_two_calls, layout, pictures, images, shortcut):
    unet = make_unet(layout)
    reference = run(unet, Shortcut.REFERENCE, pictures=pictures, images=images)
    assert distance(run(unet, shortcut, pictures=pictures, images=images), reference) < 1e-5
    if pictures == 1:
        apart = run(unet, shortcut, images=images, around=lambda predict: in_two_calls(predict, images))
        assert distance(apart, reference) < 1e-5


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("profile", PROFILE_NAMES)
@pytest.mark.parametrize("shortcut", FAST)
def test_equals_the_reference_in_every_layer_profile(make_unet, layout, profile, shortcut):
    assert error(make_unet(layout), shortcut, images=2, profile=profile) < 1e-5


def test_the_profiles_are_three(make_unet):
    results = [run(make_unet("sd1"), Shortcut.PROJECTIONS, profile=profile) for profile in PROFILE_NAMES]
    assert all(distance(one, other) > 1e-4 for one, other in zip(results, results[1:] + results[:1], strict=True))


@pytest.mark.parametrize("layout", ["sd1", "sdxl"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shortcut", FAST)
def test_equals_the_reference_in_half_precision(make_unet, layout, dtype, shortcut):
    assert error(make_unet(layout), shortcut, images=3, dtype=dtype) < 1e-2


@pytest.mark.parametrize("shortcut", FAST)
def test_a_region_takes_the_reference(make_unet, shortcut):
    mask = torch.zeros(1, 1, 16, 24)
    mask[..., :9] = 1
    reference = run(make_unet("sd1"), Shortcut.REFERENCE, region=Region(mask))
    assert torch.equal(run(make_unet("sd1"), shortcut, region=Region(mask)), reference)


@pytest.mark.parametrize(("layout", "blocks"), [("sd1", range(4, 12)), ("sdxl", range(3))])
def test_what_would_be_replaced_is_not_computed(make_unet, trace, layout, blocks):
    unet = make_unet(layout)
    prefixes = tuple(f"output_blocks.{index}." for index in blocks)
    computed = {}
    for shortcut in Shortcut:
        with trace(unet) as names:
            run(unet, shortcut)
        decoder = [name for name in names if name.startswith(prefixes)]
        computed[shortcut] = sum(name.endswith(("attn1.to_q", "attn1.to_k")) for name in decoder)
    layers = sum(name.endswith(("attn1.to_q", "attn1.to_k")) for name in set(decoder))
    # 3 inversion steps, 2 record passes and 3 sampling steps, 2 of which are injected
    assert computed[Shortcut.REFERENCE] == 8 * layers
    assert computed[Shortcut.PROJECTIONS] == 6 * layers


def test_leaving_work_out_costs_less(make_unet):
    flops = {}
    for shortcut in Shortcut:
        with FlopCounterMode(display=False) as counter:
            run(make_unet("sd1"), shortcut, images=3)
        flops[shortcut] = counter.get_total_flops()
    assert flops[Shortcut.PROJECTIONS] < flops[Shortcut.REFERENCE]


@pytest.mark.parametrize("shortcut", FAST)
@pytest.mark.parametrize("block", [5, 11])
def test_the_unet_is_put_back_whatever_happens(make_unet, fingerprint, shortcut, block):
    unet = make_unet("sd1")
    before = fingerprint(unet)
    run(unet, shortcut)
    assert fingerprint(unet) == before

    def fail(*_):
        if any(type(module).__module__.endswith("shortcuts") for module in unet.modules()):
            raise KeyboardInterrupt

    handle = unet.output_blocks[block].register_forward_pre_hook(fail)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(unet, shortcut)
    finally:
        handle.remove()
    assert fingerprint(unet) == before


@pytest.mark.parametrize("shortcut", FAST)
def test_tokens_that_do_not_fit_are_refused(make_unet, shortcut):
    unet = make_unet("sd1")
    predict = ldm_noise_predictor(unet)
    cond = noise(1, 7, 16)
    windows = {"feature_window": Window(0, 0), "attention_window": Window(0, 1)}
    with Injection(unet, shortcut=shortcut, **windows) as injection:
        (bank,) = injection.record([0], lambda: predict(noise(1, 4, 16, 16), LEVELS[0], cond))
        with pytest.raises(InjectionError, match="token merging"), injection.replay(0, bank):
            predict(noise(1, 4, 16, 24), LEVELS[0], cond)


def test_a_scaled_residual_block_keeps_the_reference(make_unet):
    """A block that scales and shifts its norm has no place for the feature's stand-in; hooks serve it."""
    unet = make_unet("sd1 scale-shift")
    reference = run(unet, Shortcut.REFERENCE)
    assert distance(run(unet, Shortcut.PROJECTIONS), reference) < 1e-5
