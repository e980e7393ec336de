"""How much memory a device has to give, and how it says that it has none."""

from __future__ import annotations

import torch

_SAID = "out of memory"


def free_bytes(device: torch.device) -> int:
    """Bytes that could be taken of a GPU: those that nobody has, and those that torch holds and does not use.

    The device may be the current GPU, without an index; torch before 2.2 wants one here.
    """
    index = torch.cuda.current_device() if device.index is None else device.index
    held = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
    return int(torch.cuda.mem_get_info(index)[0]) + held


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the main memory, is full.

    CUDA and XPU have a class for it; MPS and DirectML raise a ``RuntimeError`` that says so.
    """
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _SAID in str(error).lower()
