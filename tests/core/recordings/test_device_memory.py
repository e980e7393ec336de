"""A GPU's free memory, asked for as every torch from 2.1 on understands it."""

from __future__ import annotations

import pytest
import torch

from ditail_ext.core import free_bytes

FREE, RESERVED, ALLOCATED = {0: 100, 1: 200}, {0: 10, 1: 40}, {0: 7, 1: 15}


@pytest.mark.parametrize(("device", "free"), [("cuda:0", 103), ("cuda:1", 225), ("cuda", 225)])
def test_free_memory_is_the_devices_and_what_torch_holds_unused(
    monkeypatch: pytest.MonkeyPatch, device: str, free: int
):
    """The WebUI's device has no index; torch 2.1's ``mem_get_info`` refuses such a one."""

    def of(known):
        def ask(index):
            if not isinstance(index, int):
                raise ValueError(f"Expected a torch.device with a specified index or an integer, but got: {index}")
            return known[index]

        return ask

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "memory_reserved", of(RESERVED))
    monkeypatch.setattr(torch.cuda, "memory_allocated", of(ALLOCATED))
    monkeypatch.setattr(torch.cuda, "mem_get_info", of({index: (free, 0) for index, free in FREE.items()}))
    assert free_bytes(torch.device(device)) == free
