"""Recordings kept between runs: the same picture without record passes, within the budget."""

import functools

import pytest
import torch

from ditail_ext.core import (
    BankCache,
    FeatureBank,
    Injection,
    Level,
    Shortcut,
    SourcePass,
    SourceRecorder,
    Window,
    sample,
)

LOW, HIGH = Level(1.0, 0.9), Level(501.0, 0.3)


def bank(*names, size=100):
    made = FeatureBank()
    for name in names:
        made.store(name, torch.ones(1, size))
    return made


def run(scene, probe, cache=None, key="run", feature=3, attention=2, shortcut=Shortcut.REFERENCE):
    predict = probe(scene.predict)
    windows = {"feature_window": Window(0, feature), "attention_window": Window(0, attention)}
    with Injection(scene.target, shortcut=shortcut, **windows) as injection:
        latent = sample(
            predict,
            scene.one.start,
            scene.levels,
            scene.prompts,
            cfg_scale=2.0,
            trajectory=scene.one,
            injection=injection,
            slots=None if cache is None else lambda level: cache.slot(key, level),
        )
    return latent, sum(call.latent.shape[0] for call in predict.calls)


@pytest.mark.parametrize("shortcut", list(Shortcut))
def test_the_second_run_records_nothing_and_gives_the_same(scene, probe, shortcut):
    cache = BankCache(2**30)
    first, rows = run(scene, probe, cache, shortcut=shortcut)
    again, fewer = run(scene, probe, cache, shortcut=shortcut)
    assert (rows, fewer) == (9, 6)  # 3 steps of 2 rows, and 3 record passes
    assert torch.equal(first, again)
    assert torch.equal(first, run(scene, probe, shortcut=shortcut)[0])


def test_another_run_key_records_anew(scene, probe):
    cache = BankCache(2**30)
    run(scene, probe, cache, key="one LoRA")
    assert run(scene, probe, cache, key="another LoRA")[1] == 9


def test_wider_windows_record_what_is_missing(scene, probe):
    cache = BankCache(2**30)
    run(scene, probe, cache, attention=1)
    latent, rows = run(scene, probe, cache, attention=2)
    assert rows == 7  # only the second step lacked its queries and keys
    assert torch.equal(latent, run(scene, probe)[0])


def test_an_interrupted_run_leaves_what_it_finished(scene, probe):
    cache = BankCache(2**30)

    def predict(latent, level, cond):
        if level == scene.levels[1]:
            raise RuntimeError("stop")
        return scene.predict(latent, level, cond)

    def interrupted():
        windows = {"feature_window": Window(0, 3), "attention_window": Window(0, 2)}
        with Injection(scene.target, **windows) as injection:
            recorder = SourceRecorder(
                injection,
                lambda rows, level: predict(rows, level, scene.prompts.empty),
                functools.partial(cache.slot, "run"),
            )
            for step, level in enumerate(scene.levels):
                recorder.bank(SourcePass(step, level, scene.one.at(level)))

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert cache.get("run", scene.levels[0]) is not None
    assert cache.get("run", scene.levels[1]) is None
    assert torch.equal(run(scene, probe, cache)[0], run(scene, probe)[0])


def test_runs_longest_unused_are_dropped_first():
    cache = BankCache(1000)
    cache.put("a", LOW, bank("q"))
    cache.put("b", LOW, bank("q"))
    assert cache.get("a", LOW) is not None
    assert cache.put("c", LOW, bank("q"))
    assert [cache.get(key, LOW) is not None for key in "abc"] == [True, False, True]
    assert cache.nbytes == 800


def test_a_run_larger_than_the_budget_keeps_its_beginning():
    cache = BankCache(500)
    assert cache.put("a", HIGH, bank("q"))
    assert not cache.put("a", LOW, bank("q"))
    assert cache.get("a", HIGH) is not None
    assert cache.nbytes == 400


def test_a_recording_is_replaced_not_added():
    cache = BankCache(1000)
    for _ in range(3):
        assert cache.put("a", LOW, bank("q"))
    assert cache.nbytes == 400


def test_resize_and_clear():
    cache = BankCache(1000)
    cache.put("a", LOW, bank("q"))
    cache.put("b", LOW, bank("q"))
    cache.resize(500)
    assert cache.get("a", LOW) is None
    assert cache.get("b", LOW) is not None
    cache.clear()
    assert cache.nbytes == 0
    assert cache.get("b", LOW) is None
