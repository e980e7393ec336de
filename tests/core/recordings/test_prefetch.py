"""Recordings in the host's memory: the same bits back, in time, within the budget.

Without a GPU the transfers are copies; what runs beside what is seen by a memory that notes them.
"""

from __future__ import annotations

import pytest
import torch

from ditail_ext.core import FeatureBank, Injection, PinnedMemory, PrefetchingCache, Window, sample
from ditail_ext.core.recordings import pinned_memory as module

SIZE = 400
"""Bytes of a small bank; in the host's memory its tensors begin at multiples of 256."""
STORED = 512


def bank(value=1.0):
    return FeatureBank({"q": torch.full((1, 100), value)})


class Notes(PinnedMemory):
    """A host memory that notes what is sent and fetched, and when a fetched bank is waited for."""

    def __init__(self):
        super().__init__()
        self.log: list[str] = []

    def store(self, sent):
        self.log.append(f"store {value_of(sent):g}")
        return super().store(sent)

    def load(self, stored):
        loading = super().load(stored)
        value = value_of(loading.ready())
        self.log.append(f"load {value:g}")
        ready = loading.ready

        def noted():
            self.log.append(f"use {value:g}")
            return ready()

        loading.ready = noted
        return loading


def value_of(kept):
    return float(kept.recorded("q")[0, 0])


@pytest.fixture
def memory():
    return Notes()


def shelf_of(memory, near=0, far=10 * STORED, run="run", levels=4):
    cache = PrefetchingCache(near, far, memory)
    kept = [cache.put(run, level, bank(float(level))) for level in range(levels)]
    return cache, kept


def test_a_bank_comes_back_bit_for_bit():
    generator = torch.Generator().manual_seed(1)
    values = {
        "half": torch.randn(2, 5, 7, generator=generator).half(),
        "single": torch.randn(1, 3, 4, 4, generator=generator),
        "bfloat": torch.randn(3, 9, generator=generator).bfloat16(),
        "strided": torch.randn(2, 6, 4, generator=generator).transpose(1, 2),
    }
    memory = PinnedMemory()
    sent = FeatureBank(values)
    stored = memory.store(sent)
    back = memory.load(stored).ready()
    assert [name for name, _ in back.items()] == list(values)
    for name, value in back.items():
        assert value.dtype == values[name].dtype
        assert torch.equal(value, values[name])
        assert value.data_ptr() % value.element_size() == 0
    assert stored.nbytes >= sent.nbytes
    assert "half" in stored
    assert "other" not in stored


def test_page_locked_memory_is_counted_as_torch_takes_it():
    block = torch.empty(25 * 2**20, dtype=torch.uint8)
    assert module.PinnedBank((), block, torch.device("cuda")).nbytes == 32 * 2**20
    assert module.PinnedBank((), block, torch.device("cpu")).nbytes == 25 * 2**20


def test_what_fits_stays_near_and_the_rest_goes_far(memory):
    cache, kept = shelf_of(memory, near=2 * SIZE)
    assert all(kept)
    assert (cache.nbytes, cache.host_nbytes) == (2 * SIZE, 2 * STORED)
    assert memory.log == ["store 2", "store 3"]
    assert [value_of(cache.get("run", level)) for level in range(4)] == [0, 1, 2, 3]


def test_the_next_one_is_fetched_before_it_is_asked_for(memory):
    cache, _ = shelf_of(memory, near=SIZE)
    memory.log.clear()
    for level in range(4):
        memory.log.append(f"step {level}")
        cache.get("run", level)
    assert memory.log == [
        "step 0",
        "load 1",
        "step 1",
        "use 1",
        "load 2",
        "step 2",
        "use 2",
        "load 3",
        "step 3",
        "use 3",
    ]


def test_asked_for_out_of_order_it_is_fetched_at_once(memory):
    cache, _ = shelf_of(memory)
    memory.log.clear()
    assert value_of(cache.get("run", 3)) == 3
    assert value_of(cache.get("run", 1)) == 1
    assert value_of(cache.get("run", 1)) == 1
    assert memory.log == ["load 3", "use 3", "load 1", "use 1", "load 2", "load 1", "use 1", "load 2"]


def test_it_comes_back_where_there_is_room_again(memory):
    cache, _ = shelf_of(memory)
    cache.resize(2 * SIZE, 10 * STORED)
    for level in range(4):
        cache.get("run", level)
    assert (cache.nbytes, cache.host_nbytes) == (2 * SIZE, 2 * STORED)


def test_making_room_leaves_nothing_near_and_loses_nothing(memory):
    cache, _ = shelf_of(memory, near=10 * SIZE)
    cache.make_room()
    assert (cache.nbytes, cache.host_nbytes) == (0, 4 * STORED)
    assert [value_of(cache.get("run", level)) for level in range(4)] == [0, 1, 2, 3]
    assert cache.nbytes == 0


def test_another_run_sends_the_oldest_away_and_then_drops_it(memory):
    cache, _ = shelf_of(memory, near=4 * SIZE, far=4 * STORED)
    for level in range(4):
        cache.put("other", level, bank(10.0 + level))
    assert (cache.nbytes, cache.host_nbytes) == (4 * SIZE, 4 * STORED)
    assert value_of(cache.get("run", 0)) == 0
    for level in range(4):
        cache.put("third", level, bank(20.0 + level))
    assert cache.get("run", 0) is None, "of the two that were far, the one longest unused had to go"
    assert value_of(cache.get("other", 3)) == 13
    assert value_of(cache.get("third", 0)) == 20


def test_without_room_anywhere_it_is_not_kept(memory):
    _, kept = shelf_of(memory, near=SIZE, far=STORED)
    assert kept == [True, True, False, False]
    assert memory.log == ["store 1"], "what cannot be kept is not copied either"


def test_a_host_that_gives_no_memory_is_no_failure():
    class Poor(PinnedMemory):
        def store(self, sent):
            raise RuntimeError("CUDA error: out of memory")

    cache = PrefetchingCache(SIZE, 10 * STORED, Poor())
    assert cache.put("run", 0, bank())
    assert not cache.put("run", 1, bank())
    cache.make_room()
    assert cache.get("run", 0) is None


def test_a_recording_is_replaced_in_either_place(memory):
    cache, _ = shelf_of(memory, near=2 * SIZE)
    for level in (0, 3):
        assert cache.put("run", level, bank(50.0 + level))
    assert (cache.nbytes, cache.host_nbytes) == (2 * SIZE, 2 * STORED)
    assert [value_of(cache.get("run", level)) for level in range(4)] == [50, 1, 2, 53]


def test_holds_and_clear(memory):
    cache, _ = shelf_of(memory, near=2 * SIZE)
    assert all(cache.holds("run", level, ["q"]) for level in range(4))
    assert not cache.holds("run", 0, ["q", "k"])
    assert not cache.holds("run", 3, ["k"])
    cache.get("run", 1)
    cache.clear()
    assert (cache.nbytes, cache.host_nbytes) == (0, 0)
    assert not any(cache.holds("run", level, []) or cache.get("run", level) for level in range(4))


def run_through(scene, cache, device="cpu", start=None):
    windows = {"feature_window": Window(0, 3), "attention_window": Window(0, 2)}
    calls = []

    def predict(latent, level, cond):
        calls.append(len(latent))
        return scene.predict(latent, level, cond)

    with Injection(scene.target, **windows) as injection:
        latent = sample(
            predict,
            scene.one.start.to(device),
            scene.levels,
            scene.prompts,
            cfg_scale=2.0,
            trajectory=scene.one,
            injection=injection,
            slots=lambda level: cache.slot("run", level),
        )
    return latent, calls


@pytest.mark.parametrize("near", [0, 100_000, 2**30])
def test_a_run_from_the_hosts_memory_is_the_same(scene, near):
    cache = PrefetchingCache(near, 2**30)
    first, calls = run_through(scene, cache)
    again, fewer = run_through(scene, cache)
    assert torch.equal(first, again)
    assert (calls, fewer) == ([1, 2] * 3, [2] * 3)
    assert bool(cache.host_nbytes) == (near < 2**30)
