"""The record pass: what it keeps, where it stops, when it does not happen."""

import pytest
import torch
from torch import nn

from ditail_ext.core import FeatureBank, Injection, LayerProfile, Site, SiteKind, Window, find_sites, sample
from ditail_ext.core.injection.replay import Replay
from ditail_ext.errors import InjectionError

OPEN, SHUT = Window(0, 3), Window(0, 0)


@pytest.fixture
def source_pass(scene):
    level = scene.levels[0]
    return lambda: scene.predict(scene.one.at(level), level, scene.prompts.empty)


def observe(sites):
    """What the sites compute, and the way to stop watching."""
    seen = {}

    def hook_for(name):
        return lambda module, args, output: seen.__setitem__(name, output.clone())

    handles = [site.module.register_forward_hook(hook_for(site.name)) for site in sites]
    return seen, lambda: [handle.remove() for handle in handles]


def test_recorded_is_what_the_layers_compute(scene, source_pass):
    seen, stop = observe(find_sites(scene.target))
    source_pass()
    stop()
    with Injection(scene.target, feature_window=OPEN, attention_window=OPEN) as injection:
        (bank,) = injection.record([0], source_pass)
        assert len(bank) == len(seen) == len(injection.sites) == 17
        for site in injection.sites:
            assert site.name in bank
            assert torch.equal(bank.for_rows(site.name, tuple(seen[site.name].shape), None), seen[site.name])
        assert bank.nbytes == sum(output.numel() * 4 for output in seen.values())


def test_recorded_survives_kernels_that_work_in_place(scene, source_pass):
    """Some attention kernels scale q in place after the projection."""
    site = next(site for site in find_sites(scene.target) if site.kind is SiteKind.QUERY)
    seen, stop = observe([site])
    source_pass()
    stop()
    with Injection(scene.target, feature_window=OPEN, attention_window=OPEN) as injection:
        handle = site.module.register_forward_hook(lambda module, args, output: output.mul_(3.0))
        try:
            (bank,) = injection.record([0], source_pass)
        finally:
            handle.remove()
        assert torch.equal(bank.for_rows(site.name, tuple(seen[site.name].shape), None), seen[site.name])


def test_what_is_replayed_shares_no_memory_with_the_bank():
    bank = FeatureBank()
    output = torch.ones(1, 4, 3)
    bank.store("q", output)
    output.zero_()
    site = Site("q", SiteKind.QUERY, nn.Identity())
    replay = Replay(bank, {"q": site}, None, None)
    for rows in (1, 2):
        replay.handle(site, torch.zeros(rows, 4, 3)).mul_(5.0)
        replay.stand_in(site, (rows, 4, 3), torch.device("cpu")).mul_(5.0)
        assert torch.equal(replay.handle(site, torch.zeros(rows, 4, 3)), torch.ones(rows, 4, 3))
    assert replay.handle(site, torch.zeros(2, 4, 3, dtype=torch.float16)).dtype == torch.float16


@pytest.mark.parametrize(
    ("feature", "attention", "last"),
    [
        (OPEN, OPEN, "output_blocks.11.1.transformer_blocks.0.attn1.to_k"),
        (SHUT, OPEN, "output_blocks.11.1.transformer_blocks.0.attn1.to_k"),
        (OPEN, SHUT, "output_blocks.4.0.out_layers.3"),
    ],
)
def test_nothing_runs_after_the_last_needed_layer(scene, source_pass, trace, feature, attention, last):
    with (
        Injection(scene.target, feature_window=feature, attention_window=attention) as injection,
        trace(scene.target) as names,
    ):
        injection.record([0], source_pass)
    assert names[-1] == last
    assert not [name for name in names if name.startswith("out.")]


def test_the_last_layer_is_the_profile_s(scene, source_pass, trace):
    profile = LayerProfile((4,), (3, 6))
    injection = Injection(scene.target, feature_window=OPEN, attention_window=OPEN, profile=profile)
    with injection, trace(scene.target) as names:
        injection.record([0], source_pass)
    assert names[-1] == "output_blocks.6.1.transformer_blocks.0.attn1.to_k"


def test_windows_decide_which_sites_are_active(scene):
    windows = {"feature_window": Window.from_ratio(0.8, 10), "attention_window": Window.from_ratio(0.5, 10)}
    injection = Injection(scene.target, **windows)
    kinds = [{site.kind for site in injection.active_sites(step)} for step in range(10)]
    everything = {SiteKind.FEATURE, SiteKind.QUERY, SiteKind.KEY}
    assert kinds == [everything] * 5 + [{SiteKind.FEATURE}] * 3 + [set()] * 2


def test_bank_holds_the_active_sites_only(scene, source_pass):
    with Injection(scene.target, feature_window=OPEN, attention_window=SHUT) as injection:
        (bank,) = injection.record([0], source_pass)
        assert len(bank) == 1
        assert "output_blocks.4.0.out_layers.3" in bank


def test_source_is_not_passed_when_no_window_is_open(scene):
    with Injection(scene.target, feature_window=Window(0, 1), attention_window=Window(0, 1)) as injection:
        assert injection.active_sites(1) == ()
        with pytest.raises(ValueError, match="active sites"):
            injection.record([1], lambda: pytest.fail("the source was passed"))
        with injection.replay(1, None):
            scene.predict(scene.one.start, scene.levels[1], scene.prompts.positive)


@pytest.mark.parametrize(("feature", "attention", "passes"), [(2, 1, 2), (1, 3, 3), (1, 0, 1), (0, 0, 0)])
def test_number_of_source_passes_of_a_run(scene, probe, feature, attention, passes):
    predict = probe(scene.predict)
    with Injection(
        scene.target, feature_window=Window(0, feature), attention_window=Window(0, attention)
    ) as injection:
        sample(
            predict,
            scene.one.start,
            scene.levels,
            scene.prompts,
            cfg_scale=5.0,
            trajectory=scene.one,
            injection=injection,
        )
    sources = [call for call in predict.calls if torch.equal(call.cond, scene.prompts.empty)]
    assert len(sources) == passes
    assert len(predict.calls) == len(scene.levels) + passes
    for call, level in zip(sources, scene.levels, strict=False):
        assert call.level == level
        assert torch.equal(call.latent, scene.one.at(level))


def test_a_unet_that_is_not_called_is_an_error(scene):
    with Injection(scene.target, feature_window=OPEN, attention_window=OPEN) as injection:
        with pytest.raises(InjectionError, match="did not reach 17 of 17 layers"):
            injection.record([0], lambda: torch.zeros(1))
        assert injection.record([0], lambda: scene.predict(scene.one.start, scene.levels[0], scene.prompts.empty))


def test_a_layer_that_is_gone_around_is_an_error(scene, source_pass):
    attention = scene.target.get_submodule("output_blocks.6.1.transformer_blocks.0.attn1")
    with Injection(scene.target, feature_window=OPEN, attention_window=OPEN) as injection:
        attention.forward = lambda x, context=None, mask=None: x
        try:
            with pytest.raises(InjectionError, match=r"2 of 17 layers .*output_blocks\.6\."):
                injection.record([0], source_pass)
        finally:
            del attention.forward


def test_failure_of_the_source_pass_is_passed_on_as_it_is(scene):
    class BrokenError(Exception):
        pass

    def run():
        raise BrokenError

    with Injection(scene.target, feature_window=OPEN, attention_window=OPEN) as injection:
        with pytest.raises(BrokenError):
            injection.record([0], run)
        with pytest.raises(InjectionError, match="Step 0 was not recorded"), injection.replay(0, None):
            scene.predict(scene.one.start, scene.levels[0], scene.prompts.positive)
