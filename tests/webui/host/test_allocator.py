from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
import torch

from ditail_ext.webui.host.beside.allocator import give_back_freed

COUNT, SIZE = 4000, 64 * 2**10
"""Tensors that glibc puts into its heap, not into pages of their own."""


def resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_what_was_freed_below_something_that_is_held_goes_back():
    tensors = [torch.ones(SIZE // 4) for _ in range(COUNT)]
    full = resident()
    last = tensors[-1]
    tensors.clear()
    give_back_freed()
    assert full - resident() > COUNT * SIZE * 0.8
    assert last.sum() == SIZE // 4


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.platform", "win32")
    give_back_freed()
