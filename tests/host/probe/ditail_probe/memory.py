"""What of the process's memory somebody still holds on to."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import torch

PAGE = 4096


def held() -> dict[str, int]:
    """Bytes of all tensors alive, and how many models of the host's have weights."""
    gc.collect()
    storages, models = {}, 0
    for one in gc.get_objects():
        if issubclass(type(one), torch.Tensor) and one.device.type != "meta":
            storage = one.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif type(one).__name__ in ("LatentDiffusion", "DiffusionEngine", "KModel"):
            models += next(one.parameters()).device.type != "meta"
    return {"tensors": sum(storages.values()), "models": models}


def resident() -> dict[str, int]:
    """Resident bytes of the process, now and after the allocator has given back what nobody holds (Linux only)."""
    before = _resident()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return {"before": before, "trimmed": _resident()}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE
