"""Transfers on a GPU, on a stream of their own: they wait for what they copy, and are waited for."""

from __future__ import annotations

import pytest
import torch

from ditail_ext.core import FeatureBank, PinnedMemory, PrefetchingCache

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def value_of(bank):
    return float(bank.recorded("q").flatten()[0])


@NEEDS_GPU
def test_on_a_gpu_transfers_wait_for_what_they_copy_and_are_waited_for():
    """A long computation before each copy: whoever does not wait reads what was there before."""
    memory, device = PinnedMemory(), torch.device("cuda")
    busy = torch.randn(4096, 4096, device=device)
    for number in range(20):
        value = torch.zeros(1, 2**22, device=device)
        for _ in range(10):
            busy = (busy @ busy).tanh_()
        value.add_(number)
        stored = memory.store(FeatureBank({"q": value}))
        del value
        torch.full((1, 2**22), -1.0, device=device)
        back = memory.load(stored).ready().recorded("q")
        assert torch.equal(back + busy[0, 0] * 0, torch.full_like(back, number))
    assert stored.block.is_pinned()


@NEEDS_GPU
def test_on_a_gpu_making_room_frees_its_memory():
    cache = PrefetchingCache(2**30, 2**30)
    before = torch.cuda.memory_allocated()
    for level in range(4):
        cache.put("run", level, FeatureBank({"q": torch.full((1, 2**20), float(level), device="cuda")}))
    cache.make_room()
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() - before < 2**20
    assert [value_of(cache.get("run", level)) for level in range(4)] == [0, 1, 2, 3]
