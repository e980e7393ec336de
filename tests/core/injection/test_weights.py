"""Windows that begin later, blend weights, and the region's exactness in a whole UNet."""

import functools

import pytest
import torch

from ditail_ext.core import BankCache, Injection, Region, Shortcut, SiteKind, Window, expand_rows, find_sites, sample
from ditail_ext.errors import InjectionError, ScheduleError

OPEN, SHUT = Window(0, 3), Window(0, 0)
LEFT = torch.zeros(1, 1, 16, 16)
LEFT[..., :8] = 1.0


class Watch:
    """Outputs of a UNet's sites: entered around an injection the layers' own, within it what they became."""

    def __init__(self, unet):
        self.sites, self.handles = find_sites(unet), []

    def __enter__(self):
        self.seen = {}
        for site in self.sites:
            hook = functools.partial(self._see, site.name)
            self.handles.append(site.module.register_forward_hook(hook))
        return self.seen

    def _see(self, name, _module, _args, output):
        self.seen[name] = output.clone()

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def run(scene, trajectory=None, start=None, cache=None, calls=None, around=lambda predict: predict, **options):
    """Three steps; ``calls`` collects the rows of each UNet call."""

    def predict(latent, level, cond):
        if calls is not None:
            calls.append(latent.shape[0])
        return scene.predict(latent, level, cond)

    trajectory = trajectory or scene.one
    with Injection(scene.target, **{"feature_window": OPEN, "attention_window": OPEN, **options}) as injection:
        return sample(
            around(predict),
            trajectory.start if start is None else start,
            scene.levels,
            scene.prompts,
            cfg_scale=2.0,
            trajectory=trajectory,
            injection=injection,
            slots=None if cache is None else functools.partial(cache.slot, "run"),
        )


def distance(one, other):
    return float((one - other).norm() / other.norm())


def first_step(scene, rows=4, **options):
    """What the sites of the first step compute and become, for rows of two pictures and two prompts."""
    latent = torch.randn(rows, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    half = rows // 2
    cond = torch.cat([expand_rows(scene.prompts.positive, half), expand_rows(scene.prompts.negative, half)])
    level = scene.levels[0]
    windows = {"feature_window": OPEN, "attention_window": OPEN, **options}
    with Watch(scene.target) as own, Injection(scene.target, **windows) as injection, Watch(scene.target) as given:
        bank = None
        if injection.active_sites(0):
            (bank,) = injection.record([0], lambda: scene.predict(scene.one.at(level), level, scene.prompts.empty))
        own.clear(), given.clear()
        with injection.replay(0, bank):
            scene.predict(latent, level, cond)
        return dict(own), dict(given), bank


@pytest.mark.parametrize("shortcut", list(Shortcut))
def test_the_defaults_are_the_method_bit_for_bit(scene, shortcut):
    stated = {"feature_weight": 1.0, "attention_weight": 1.0, "region": None}
    begins = {"feature_window": Window.from_ratio(1.0, 3, 0.0), "attention_window": Window.from_ratio(0.7, 3, 0.0)}
    method = {"feature_window": Window(0, 3), "attention_window": Window(0, 2)}
    expected = run(scene, shortcut=shortcut, **method)
    assert torch.equal(run(scene, shortcut=shortcut, **stated, **begins), expected)


def test_a_window_may_begin_later():
    assert Window.from_ratio(0.8, 10, 0.3) == Window(3, 8)
    assert Window.from_ratio(0.58, 100, 0.29) == Window(29, 58)
    assert [len(Window.from_ratio(end, 10, start)) for end, start in ((1, 0), (0.5, 0.5), (0.2, 0.6))] == [10, 0, 0]
    assert not [step for step in range(10) if step in Window.from_ratio(0.2, 10, 0.6)]
    with pytest.raises(ScheduleError, match="0 to 1"):
        Window.from_ratio(0.5, 10, 1.5)


def test_nothing_is_recorded_before_a_window_opens_or_for_a_weight_of_zero(scene):
    late = {"feature_window": Window(1, 2), "attention_window": Window(2, 3)}
    for options, rows in (
        (late, [2, 1, 2, 1, 2]),
        ({**late, "feature_weight": 0.0}, [2, 2, 1, 2]),
        ({"feature_weight": 0.0, "attention_weight": 0.0}, [2, 2, 2]),
    ):
        calls = []
        run(scene, calls=calls, **options)
        assert calls == rows
    injection = Injection(scene.target, feature_window=OPEN, attention_window=Window(1, 3), feature_weight=0.0)
    kinds = [{site.kind for site in injection.active_sites(step)} for step in range(3)]
    assert kinds == [set(), {SiteKind.QUERY, SiteKind.KEY}, {SiteKind.QUERY, SiteKind.KEY}]


@pytest.mark.parametrize("shortcut", list(Shortcut))
def test_a_weight_of_zero_is_a_shut_window(scene, shortcut):
    for kind in ("feature", "attention"):
        none = run(scene, shortcut=shortcut, **{f"{kind}_weight": 0.0})
        assert torch.equal(none, run(scene, shortcut=shortcut, **{f"{kind}_window": SHUT}))


def test_each_row_blends_the_source_with_its_own(scene):
    own, given, bank = first_step(scene, feature_weight=0.25, attention_weight=0.6)
    assert len(given) == 17
    for site in find_sites(scene.target):
        weight = 0.25 if site.kind is SiteKind.FEATURE else 0.6
        source = bank.for_rows(site.name, tuple(own[site.name].shape), None)
        torch.testing.assert_close(given[site.name], weight * source + (1 - weight) * own[site.name])
        assert not torch.equal(given[site.name][0], given[site.name][1])  # unlike the method's


@pytest.mark.parametrize("blend", [{"feature_weight": 0.3}, {"attention_weight": 0.3}, {"region": Region(LEFT)}])
@pytest.mark.parametrize("shortcut", list(Shortcut))
def test_shortcuts_stay_away_from_what_is_blended(scene, shortcut, blend):
    expected = run(scene, **blend)
    found = run(scene, shortcut=shortcut, **blend)
    assert distance(found, expected) < 1e-5
    assert distance(found, run(scene, shortcut=shortcut)) > 1e-3


def test_a_shortcut_still_serves_the_kind_that_is_whole(scene, trace):
    counts = {}
    for weight in (1.0, 0.5):
        with trace(scene.target) as names:
            run(scene, shortcut=Shortcut.PROJECTIONS, feature_weight=weight)
        counts[weight] = [
            sum(name == f"output_blocks.{part}" for name in names)
            for part in ("4.0.out_layers.3", "5.1.transformer_blocks.0.attn1.to_q")
        ]
    assert counts == {1.0: [3, 3], 0.5: [6, 3]}  # three record passes, and three steps where it is computed


@pytest.mark.parametrize("region", [None, Region(LEFT * 0.7)], ids=["everywhere", "region"])
def test_prompts_together_apart_and_images_alone_are_the_same(scene, region, in_two_calls):
    blend = {"feature_weight": 0.4, "attention_weight": 0.7, "region": region}
    together = run(scene, scene.three, **blend)
    assert distance(run(scene, scene.one, **blend), together[:1]) < 1e-5
    of_one = run(scene, start=scene.three.start, **blend)
    apart = run(scene, start=scene.three.start, around=lambda predict: in_two_calls(predict, 3), **blend)
    assert distance(apart, of_one) < 1e-5


def test_strength_rises_with_the_weight(scene):
    full, none = run(scene), run(scene, feature_weight=0.0, attention_weight=0.0)
    ladder = [run(scene, feature_weight=w, attention_weight=w) for w in (0.25, 0.5, 0.75)]
    distances = [distance(latent, full) for latent in (none, *ladder)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] > 0


def test_a_strength_of_the_mask_is_a_weight(scene):
    grey = run(scene, region=Region(torch.full((1, 1, 16, 16), 0.5)))
    weighted = run(scene, feature_weight=0.5, attention_weight=0.5)
    both = run(scene, region=Region(torch.full((1, 1, 16, 16), 0.8)), feature_weight=0.625, attention_weight=0.625)
    assert distance(grey, weighted) < 1e-5
    assert distance(both, weighted) < 1e-5


def columns(site, values, part):
    """The left or right half of a layer's tokens or plane."""
    if site.kind is not SiteKind.FEATURE:
        side = int(values.shape[1] ** 0.5)
        values = values.transpose(1, 2).unflatten(2, (side, side))
    half = values.shape[-1] // 2
    return values[..., :half] if part == "left" else values[..., half:]


def test_outside_the_region_the_layers_are_their_own_bit_for_bit(scene):
    own, given, bank = first_step(scene, region=Region(LEFT))
    for site in find_sites(scene.target):
        source = bank.for_rows(site.name, tuple(own[site.name].shape), None)
        assert torch.equal(columns(site, given[site.name], "right"), columns(site, own[site.name], "right")), site
        assert torch.equal(columns(site, given[site.name], "left"), columns(site, source, "left")), site


@pytest.mark.parametrize("kind", ["feature", "attention"])
def test_the_first_injected_layer_equals_an_uninjected_run_outside_the_region(scene, kind):
    """Only the first: what follows it mixes the halves, by convolutions and attention."""
    shut = {"attention_window": SHUT} if kind == "feature" else {"feature_window": SHUT}
    plain, _, _ = first_step(scene, feature_window=SHUT, attention_window=SHUT)
    _, given, _ = first_step(scene, region=Region(LEFT), **shut)
    kinds = {SiteKind.FEATURE} if kind == "feature" else {SiteKind.QUERY, SiteKind.KEY}
    injected = [site for site in find_sites(scene.target) if site.kind in kinds]
    for site in injected[: len(kinds)]:
        assert torch.equal(columns(site, given[site.name], "right"), columns(site, plain[site.name], "right"))
        assert not torch.equal(columns(site, given[site.name], "left"), columns(site, plain[site.name], "left"))


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_other_weights_are_refused(scene, weight):
    for kind in ("feature", "attention"):
        with pytest.raises(InjectionError, match="blend weight"):
            Injection(scene.target, feature_window=OPEN, attention_window=OPEN, **{f"{kind}_weight": weight})


def test_kept_recordings_serve_any_weight_region_and_window(scene):
    """A recording is the source's alone; what another window needs more of is recorded anew."""
    cache = BankCache(2**30)
    run(scene, cache=cache, feature_window=Window(0, 1), attention_window=Window(1, 3))
    for options, passes in (
        ({"feature_window": Window(0, 1), "attention_window": Window(1, 3)}, 0),
        ({"feature_window": OPEN, "attention_window": Window(1, 3)}, 2),
        ({"attention_weight": 0.3, "feature_weight": 0.0, "attention_window": Window(1, 3)}, 0),
        ({"region": Region(LEFT), "attention_window": Window(1, 3)}, 0),
        ({"feature_window": SHUT}, 1),
        ({"feature_window": Window(2, 3), "attention_window": Window(0, 2)}, 0),
        ({}, 1),
    ):
        calls = []
        kept = run(scene, cache=cache, calls=calls, **options)
        assert calls.count(1) == passes, options
        assert torch.equal(kept, run(scene, **options)), options
