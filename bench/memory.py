"""Highest memory use: torch's own count on a GPU, a process's resident pages, by the kernel's account, on a CPU."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import torch


class Resident:
    """Resident memory of a process, in bytes, from Linux's own account.

    The kernel keeps the highest value itself: a thread that looks now and then sees nothing of a short rise while a
    busy machine does not let it run.
    """

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)

    @property
    def counted(self) -> bool:
        """Whether there is such an account: on Linux, of a process of one's own."""
        return os.access(self._folder / "clear_refs", os.W_OK)

    def restart(self) -> None:
        """Forget the highest value so far; an `OSError` where nothing is `counted`."""
        (self._folder / "clear_refs").write_text("5", "ascii")

    def now(self) -> int:
        """What it uses."""
        return self._entry("VmRSS")

    def highest(self) -> int:
        """The most that it used since `restart`."""
        return self._entry("VmHWM")

    def _entry(self, name: str) -> int:
        lines = dict(line.split(":", 1) for line in (self._folder / "status").read_text("ascii").splitlines())
        return int(lines[name].split()[0]) * 1024


def peak_of(function: Callable[[], object], device: torch.device) -> int | None:
    """Bytes by which memory use rose at most while a call ran; ``None`` where nobody counts (a CPU without Linux)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    resident = Resident(os.getpid())
    if not resident.counted:
        return None
    resident.restart()
    before = resident.now()
    function()
    return resident.highest() - before
