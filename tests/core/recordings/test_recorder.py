"""Recording several levels in one call: the same banks, fewer calls, and what bounds them."""

from __future__ import annotations

import functools
from itertools import pairwise

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
    rows_worth_a_call,
    sample,
)
from ditail_ext.errors import InjectionError
from tests.core.recordings.passes import Source, same

STEPS = 3


@pytest.fixture
def entered(scene):
    with Injection(scene.target, feature_window=Window(0, 3), attention_window=Window(0, 2)) as injection:
        yield injection


@pytest.mark.parametrize("pictures", ["one", "three"])
@pytest.mark.parametrize(
    ("most", "calls"),
    [(None, [1, 1, 1]), (1, [1, 1, 1]), (2, [2, 1]), (3, [2, 1]), (8, [2, 1])],
    ids=["no limit given", "1", "2", "3", "8"],
)
def test_the_banks_are_those_of_one_level_at_a_time(scene, entered, pictures, most, calls):
    """The third step has other sites: it is never recorded along with the first two."""
    trajectory = getattr(scene, pictures)
    count = trajectory.batch_size
    source, alone = Source(scene, trajectory), Source(scene, trajectory)
    found = source.banks(source.recorder(entered, None if most is None else most * count))
    expected = alone.banks(alone.recorder(entered, None))
    assert all(same(*pair) for pair in zip(found, expected, strict=True))
    assert source.calls == [count * levels for levels in calls]
    assert not any(same(*pair) for pair in pairwise(found)), "the levels cannot be told apart"


@pytest.mark.parametrize("shortcut", list(Shortcut))
@pytest.mark.parametrize("pictures", ["one", "three"])
def test_a_run_comes_out_the_same(scene, probe, shortcut, pictures):
    trajectory = getattr(scene, pictures)

    def run(most):
        predict = probe(scene.predict)
        windows = {"feature_window": Window(0, 3), "attention_window": Window(0, 3)}
        with Injection(scene.target, shortcut=shortcut, **windows) as injection:
            latent = sample(
                predict,
                trajectory.start,
                scene.levels,
                scene.prompts,
                cfg_scale=2.0,
                trajectory=trajectory,
                injection=injection,
                most_rows=lambda latents: most,
            )
        return latent, len(predict.calls)

    (ahead, fewer), (alone, calls) = run(100), run(1)
    assert (fewer, calls) == (1 + STEPS, 2 * STEPS)
    assert float((ahead - alone).norm() / alone.norm()) < 1e-5


def test_v_prediction_converts_each_row_by_its_level():
    from ditail_ext.core import Prediction, to_epsilon

    levels = [Level(901.0, 0.05), Level(1.0, 0.9)]
    output, latent = torch.randn(2, 4, 2, 3), torch.randn(2, 4, 2, 3)
    found = to_epsilon(Prediction.V, output, latent, levels)
    for row, level in enumerate(levels):
        assert torch.allclose(found[row], to_epsilon(Prediction.V, output[row], latent[row], level))


def test_what_is_kept_is_not_recorded_along(scene, entered):
    cache: BankCache[FeatureBank] = BankCache(2**30)
    slots = functools.partial(cache.slot, "run")
    source = Source(scene, scene.one)
    recorder = source.recorder(entered, None, slots)
    assert recorder.bank(source.passes[1]) is not None
    source.calls.clear()
    banks = source.banks(source.recorder(entered, 8, slots))
    assert source.calls == [1, 1]
    assert banks[1] is cache.get("run", scene.levels[1])
    assert all(cache.holds("run", level, dict(bank.items())) for level, bank in zip(scene.levels, banks, strict=True))


def test_a_level_visited_twice_is_recorded_once(scene, entered):
    """As Heun does it: at the end of one step, and at the beginning of the next."""
    source = Source(scene, scene.one)
    recorder = source.recorder(entered, None)
    first, second, _ = source.passes
    assert recorder.bank(first) is not recorder.bank(second)
    assert recorder.bank(second) is recorder.bank(second)
    assert source.calls == [1, 1]


def test_what_is_past_is_let_go(scene, entered):
    source = Source(scene, scene.one)
    recorder = source.recorder(entered, 8)
    source.banks(recorder)
    source.calls.clear()
    recorder.bank(source.passes[0])
    assert source.calls == [1]


def test_places_tell_latents_of_one_level_apart(scene, entered):
    source = Source(scene, scene.one)
    level = scene.levels[0]
    passes = [SourcePass(0, level, scene.three.at(level)[row : row + 1], place=(level, row)) for row in range(2)]
    recorder = source.recorder(entered, 8)
    one, other = (recorder.bank(due, iter(passes[index + 1 :])) for index, due in enumerate(passes))
    assert source.calls == [2]
    assert not same(one, other)


@pytest.mark.parametrize(("room", "calls"), [(2, [4, 2, 2]), (1, [4, 2, 1, 1, 1, 1])])
def test_where_memory_is_short_fewer_go_together(scene, room, calls):
    """As many as there is memory for, from then on; and what cannot be recorded alone is an error."""
    source = Source(scene, scene.one)
    level = scene.levels[0]
    passes = [SourcePass(step, level, scene.one.at(level), place=step) for step in range(4)]

    def run(rows, levels):
        source.run(rows, levels) if len(rows) <= room else source.calls.append(len(rows))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with Injection(scene.target, feature_window=Window(0, 4), attention_window=Window(0, 4)) as injection:
        recorder = SourceRecorder(injection, run, None, lambda latents: 8)
        for due in passes:
            assert recorder.bank(due, iter(passes[due.step + 1 :]))
        assert source.calls == calls
        room = 0
        with pytest.raises(torch.cuda.OutOfMemoryError):
            SourceRecorder(injection, run, None, lambda latents: 8).bank(passes[0], iter(passes[1:]))


def test_an_error_is_passed_on_and_leaves_nothing(scene, entered):
    class HaltError(Exception):
        pass

    def halt(rows, levels):
        raise HaltError

    source = Source(scene, scene.one)
    recorder = SourceRecorder(entered, halt, None, lambda latents: 8)
    with pytest.raises(HaltError):
        recorder.bank(source.passes[0], iter(source.passes[1:]))
    assert source.recorder(entered, 8).bank(source.passes[0])


def test_rows_that_are_not_the_levels_are_an_error(scene, entered):
    source = Source(scene, scene.one)

    def one_row(rows, levels):
        scene.predict(rows[:1], levels[0], scene.prompts.empty)

    with pytest.raises(InjectionError, match="computed 1 rows for 2 levels"):
        SourceRecorder(entered, one_row, None, lambda latents: 8).bank(source.passes[0], iter(source.passes[1:]))


def test_steps_with_different_sites_cannot_go_together(entered):
    for steps in ([1, 2], [3], [2, 3]):
        with pytest.raises(ValueError, match="same active sites"):
            entered.record(steps, lambda: pytest.fail("passed"))


@pytest.mark.parametrize(
    ("height", "width", "free", "rows"),
    [(64, 64, 24, 8), (64, 96, 24, 5), (128, 128, 24, 2), (300, 300, 24, 1), (64, 64, 2, 3), (64, 64, 0.1, 1)],
)
def test_rows_are_bounded_by_what_fills_a_gpu_and_by_its_memory(height, width, free, rows):
    latents = torch.empty(1, 4, height, width, device="meta")
    assert rows_worth_a_call(latents, 320, int(free * 2**30)) == rows
