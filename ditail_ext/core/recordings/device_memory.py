"""How much memory a GPU has to give."""

from __future__ import annotations

import torch


def free_bytes(device: torch.device) -> int:
    """Bytes that could be taken of a GPU: those that nobody has, and those that torch holds and does not use.

    The device may be the current GPU, without an index; torch before 2.2 wants one here.
    """
    index = torch.cuda.current_device() if device.index is None else device.index
    held = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
    return int(torch.cuda.mem_get_info(index)[0]) + held
