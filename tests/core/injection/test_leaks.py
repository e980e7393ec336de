"""Nothing leaks: however a run ends, the UNet is what it was, to the last attribute."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from ditail_ext.core import Injection, NoiseSchedule, Prompts, Window, find_sites, invert, sample

OPEN = Window(0, 1)
LEVEL = NoiseSchedule.stable_diffusion().at_timestep(500)


class HaltError(Exception):
    pass


@pytest.fixture(scope="module")
def small(make_unet):
    """A run of one step through an SDXL-like UNet, small enough to be broken at many calls."""
    unet = make_unet("sdxl")
    generator = torch.Generator().manual_seed(3)
    positive, negative, empty = (torch.randn(1, 5, 16, generator=generator) for _ in range(3))

    @torch.no_grad()
    def predict(latent, level, cond):
        timesteps = torch.full((len(latent),), level.timestep)
        return unet(latent, timesteps=timesteps, context=[cond] * 2)  # ldm wants one for each transformer block

    levels = NoiseSchedule.stable_diffusion().ddim_levels(1)
    picture = torch.randn(1, 4, 8, 8, generator=generator)
    trajectory = invert(predict, picture, levels[::-1], empty)

    def run(injection, predict=predict, **options):
        prompts = Prompts(positive, negative, empty)
        common = {"cfg_scale": 5.0, "trajectory": trajectory, "injection": injection, **options}
        return sample(predict, trajectory.start, levels, prompts, **common)

    return SimpleNamespace(unet=unet, predict=predict, run=run, plain=lambda: run(None, trajectory=None))


@pytest.fixture
def untouched(small, fingerprint):
    """The UNet is the same after the test as before it, and computes the same bits."""
    before, output = fingerprint(small.unet), small.plain()
    yield
    assert fingerprint(small.unet) == before
    assert torch.equal(small.plain(), output)


def injected(small):
    return Injection(small.unet, feature_window=OPEN, attention_window=OPEN)


def raise_at_call(number, error):
    """Make the ``number``-th module call from now on raise, whichever module of whichever pass it is."""
    calls = iter(range(number + 1))

    def hook(module, args):
        if next(calls, number) == number:
            raise error

    return register_module_forward_pre_hook(hook)


def calls_of_a_run(small):
    count = 0

    def hook(module, args):
        nonlocal count
        count += 1

    handle = register_module_forward_pre_hook(hook)
    with injected(small) as injection:
        small.run(injection)
    handle.remove()
    return count


def test_after_success(small, untouched):
    with injected(small) as injection:
        changed = small.run(injection)
    assert not torch.equal(changed, small.plain()), "the injection does nothing here, so the test is void"


def test_hooks_are_there_within_only(small, untouched):
    injection = injected(small)
    assert not any(site.module._forward_hooks for site in injection.sites)
    with injection:
        assert all(len(site.module._forward_hooks) == 1 for site in injection.sites)
    assert not any(site.module._forward_hooks for site in injection.sites)


def test_the_fingerprint_notices(small, fingerprint):
    """Each way in which somebody may leave something behind shows, so the tests here can fail."""
    before = fingerprint(small.unet)
    site = find_sites(small.unet)[0].module
    parent = small.unet.get_submodule("output_blocks.1.1")

    def leave_hook():
        return site.register_forward_hook(lambda *_: None).remove

    def leave_forward():
        parent.forward = parent.forward
        return lambda: delattr(parent, "forward")

    def leave_attribute():
        parent.ditail = 1
        return lambda: delattr(parent, "ditail")

    def leave_class_attribute():
        type(parent).ditail = 1
        return lambda: delattr(type(parent), "ditail")

    def leave_other_weight():
        old = site.bias
        site.bias = torch.nn.Parameter(old.clone(), requires_grad=False)
        return lambda: setattr(site, "bias", old)

    for leave in (leave_hook, leave_forward, leave_attribute, leave_class_attribute, leave_other_weight):
        undo = leave()
        assert fingerprint(small.unet) != before, leave.__name__
        undo()
        assert fingerprint(small.unet) == before, leave.__name__


@pytest.mark.parametrize(("error", "first", "stride"), [(HaltError, 0, 23), (KeyboardInterrupt, 5, 41)])
def test_after_an_error_anywhere_within_the_unet(small, untouched, error, first, stride):
    """Record and replay of a step, broken at one module call after another."""
    total = calls_of_a_run(small)
    assert total > 400
    for number in range(first, total, stride):
        handle = raise_at_call(number, error)
        try:
            with pytest.raises(error), injected(small) as injection:
                small.run(injection)
        finally:
            handle.remove()
        assert not any(site.module._forward_hooks for site in find_sites(small.unet)), number


@pytest.mark.parametrize("error", [HaltError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize(
    ("place", "number"), [("before the UNet", 0), ("before the UNet", 1), ("after the UNet", 1), ("in on_step", 0)]
)
def test_after_an_error_outside_of_the_unet(small, untouched, error, place, number):
    """Pass 0 is the recording, which never returns from the UNet; pass 1 is the replay."""
    passes = iter(range(100))

    def predict(latent, level, cond):
        this = next(passes)
        if place == "before the UNet" and this == number:
            raise error
        epsilon = small.predict(latent, level, cond)
        if place == "after the UNet" and this == number:
            raise error
        return epsilon

    def on_step(step, steps, level, latent):
        if place == "in on_step":
            raise error

    with pytest.raises(error), injected(small) as injection:
        small.run(injection, predict=predict, on_step=on_step)


def test_after_an_error_in_the_body_of_replay(small, untouched):
    def run():
        with injected(small) as injection:
            (bank,) = injection.record(
                [0], lambda: small.predict(torch.zeros(1, 4, 8, 8), LEVEL, torch.zeros(1, 5, 16))
            )
            with injection.replay(0, bank):
                raise HaltError

    with pytest.raises(HaltError):
        run()


def test_after_an_error_while_entering(small, untouched):
    sites = find_sites(small.unet)

    def broken(*_, **__):
        raise KeyboardInterrupt

    sites[3].module.register_forward_hook = broken
    try:
        with pytest.raises(KeyboardInterrupt), injected(small):
            pytest.fail("entered")
    finally:
        del sites[3].module.register_forward_hook
    assert not any(site.module._forward_hooks for site in sites)


def test_after_nested_misuse(small, untouched):
    level, zeros, cond = LEVEL, torch.zeros(1, 4, 8, 8), torch.zeros(1, 5, 16)
    with injected(small) as injection:
        with pytest.raises(RuntimeError, match="already entered"), injection:
            pytest.fail("entered twice")
        (bank,) = injection.record([0], lambda: small.predict(zeros, level, cond))
        with injection.replay(0, bank):
            with pytest.raises(RuntimeError, match="nested"), injection.replay(0, bank):
                pytest.fail("replay in replay")
            with pytest.raises(RuntimeError, match="nested"):
                injection.record([0], lambda: pytest.fail("record in replay"))
            small.predict(zeros, level, cond)
        with pytest.raises(RuntimeError, match="nested"):
            injection.record([0], lambda: injection.record([0], lambda: None))
    for use in (lambda: injection.record([0], lambda: None), lambda: injection.replay(0, bank).__enter__()):
        with pytest.raises(RuntimeError, match="entered"):
            use()


def test_two_injections_may_end_in_any_order(small, untouched):
    first, second = injected(small), injected(small)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    output = small.run(second)
    second.__exit__(None, None, None)
    with injected(small) as injection:
        assert torch.equal(small.run(injection), output)


def test_one_injection_can_be_entered_again(small, untouched):
    injection = injected(small)
    with injection:
        first = small.run(injection)
    with injection:
        assert torch.equal(small.run(injection), first)


def test_foreign_hooks_survive(small, untouched):
    """A hook on the very same layers: there before, called throughout, there afterwards."""
    called = []
    sites = find_sites(small.unet)
    handles = [site.module.register_forward_hook(lambda *_: called.append(1)) for site in sites]
    before = [list(site.module._forward_hooks) for site in sites]
    with injected(small) as injection:
        small.run(injection)
    assert [list(site.module._forward_hooks) for site in sites] == before
    assert len(called) == 2 * len(sites)
    [handle.remove() for handle in handles]


def test_hooks_taken_away_by_others_do_no_harm(small, untouched):
    with injected(small) as injection:
        for site in injection.sites:
            site.module._forward_hooks.clear()
