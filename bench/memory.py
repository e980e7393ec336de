"""Highest memory use of a call: torch's own count on a GPU, the process's resident pages on a CPU."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import torch

STATM = Path("/proc/self/statm")
INTERVAL = 0.002
"""Seconds between two looks at the resident pages; torch holds no lock while it computes."""


def peak_of(function: Callable[[], object], device: torch.device) -> int | None:
    """Bytes by which memory use rose at most while a call ran; ``None`` where nobody counts (a CPU without /proc)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not STATM.is_file():
        return None
    before = highest = _resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(INTERVAL):
            highest = max(highest, _resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        function()
    finally:
        done.set()
        watcher.join()
    return max(highest, _resident()) - before


def _resident() -> int:
    return int(STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
