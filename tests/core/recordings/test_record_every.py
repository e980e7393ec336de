"""Steps between the recorded ones replay the recording before them."""

from __future__ import annotations

import functools

import pytest

from ditail_ext.core import BankCache, FeatureBank, Injection, Window, sample
from ditail_ext.errors import InjectionError
from tests.core.recordings.passes import Source, same

WINDOWS = {"feature_window": Window(0, 3), "attention_window": Window(0, 3)}


@pytest.mark.parametrize(("most", "calls"), [(None, [1, 1]), (8, [2])])
def test_the_step_between_replays_the_one_before(scene, most, calls):
    source, alone = Source(scene, scene.one), Source(scene, scene.one)
    with Injection(scene.target, **WINDOWS, record_every=2) as injection:
        first, second, third = source.banks(source.recorder(injection, most))
    with Injection(scene.target, **WINDOWS) as injection:
        expected = alone.banks(alone.recorder(injection, None))
    assert second is first
    assert same(first, expected[0])
    assert same(third, expected[2])
    assert source.calls == calls


def test_what_is_kept_of_the_step_between_changes_nothing(scene):
    cache: BankCache[FeatureBank] = BankCache(2**30)
    slots = functools.partial(cache.slot, "run")
    source = Source(scene, scene.one)
    with Injection(scene.target, **WINDOWS) as injection:
        all_of_them = source.banks(source.recorder(injection, None, slots))
    source.calls.clear()
    with Injection(scene.target, **WINDOWS, record_every=2) as injection:
        assert source.banks(source.recorder(injection, None, slots)) == [all_of_them[i] for i in (0, 0, 2)]
    assert source.calls == []


def test_a_window_that_begins_between_is_recorded_there(scene):
    source = Source(scene, scene.one)
    windows = {"feature_window": Window(0, 3), "attention_window": Window(1, 3)}
    with Injection(scene.target, **windows, record_every=2) as injection:
        first, second, third = source.banks(source.recorder(injection, 8))
        assert [len(bank) for bank in (first, second)] == [len(injection.active_sites(step)) for step in (0, 1)]
    assert source.calls == [1, 2]  # the third goes along with the second
    assert third is not second


def test_what_a_wider_window_kept_changes_nothing(scene):
    """Its bank of the first step has the attention, too; a window that begins after it is recorded where it begins."""
    cache: BankCache[FeatureBank] = BankCache(2**30)
    slots = functools.partial(cache.slot, "run")
    source = Source(scene, scene.one)
    with Injection(scene.target, **WINDOWS) as injection:
        wider = source.banks(source.recorder(injection, None, slots))
    windows = {"feature_window": Window(0, 3), "attention_window": Window(1, 3)}
    with Injection(scene.target, **windows, record_every=2) as injection:
        assert source.banks(source.recorder(injection, None, slots)) == wider


def test_a_window_that_ends_between_needs_no_more(scene):
    source = Source(scene, scene.one)
    windows = {"feature_window": Window(0, 3), "attention_window": Window(0, 1)}
    with Injection(scene.target, **windows, record_every=3) as injection:
        assert len({id(bank) for bank in source.banks(source.recorder(injection, None))}) == 1
    assert source.calls == [1]


def test_it_is_another_picture_that_is_near(scene):
    def run(every):
        with Injection(scene.target, **WINDOWS, record_every=every) as injection:
            start, given = scene.one.start, {"trajectory": scene.one, "injection": injection}
            return sample(scene.predict, start, scene.levels, scene.prompts, cfg_scale=2.0, **given)

    each, second, third = run(1), run(2), run(3)
    assert 0 < (second - each).norm() < (third - each).norm() < 0.5 * each.norm()


def test_never_is_refused(scene):
    with pytest.raises(InjectionError, match="1 or more, not 0"):
        Injection(scene.target, **WINDOWS, record_every=0)
