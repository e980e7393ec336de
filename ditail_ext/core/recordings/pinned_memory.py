"""Feature banks in the host's memory, for a GPU that has no room for them.

A bank lies in one page-locked block, so that it goes and comes in one transfer, which runs on a stream of its own
beside the computation. SD1.5 at 512x512 records 25 MiB a step in half precision: a millisecond over PCIe, where the
step itself takes tens. Without a GPU the same code copies within the memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..injection import FeatureBank

_ALIGNMENT = 256
"""Bytes; tensors within a block begin at multiples of it, as torch's own allocations do."""


class _Entry(NamedTuple):
    name: str
    begin: int
    size: torch.Size
    dtype: torch.dtype

    def view(self, block: Tensor) -> Tensor:
        """The tensor within a block of bytes."""
        count = math.prod(self.size) * self.dtype.itemsize
        return block[self.begin : self.begin + count].view(self.dtype).view(self.size)


@dataclass(frozen=True)
class PinnedBank:
    """A bank in the host's memory; ``PinnedMemory.load`` brings it back."""

    entries: tuple[_Entry, ...]
    block: Tensor
    device: torch.device

    def __contains__(self, name: str) -> bool:
        return any(entry.name == name for entry in self.entries)

    @property
    def nbytes(self) -> int:
        """Memory that it takes, in bytes; torch rounds page-locked blocks up to powers of two."""
        count = self.block.numel()
        return 1 << (count - 1).bit_length() if self.device.type == "cuda" else count


class Loading:
    """A bank on its way to the device."""

    def __init__(self, entries: tuple[_Entry, ...], block: Tensor, arrived: torch.cuda.Event | None) -> None:
        self._entries = entries
        self._block = block
        self._arrived = arrived

    def ready(self) -> FeatureBank:
        """The bank, for computation on the current stream, which waits for it and not the caller."""
        if self._arrived is not None:
            stream = torch.cuda.current_stream(self._block.device)
            stream.wait_event(self._arrived)
            self._block.record_stream(stream)
        return FeatureBank({entry.name: entry.view(self._block) for entry in self._entries})


class PinnedMemory:
    """Copies banks into the host's memory and back, beside the computation."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def store(self, bank: FeatureBank) -> PinnedBank:
        """Begin to copy a bank out; it may be dropped at once.

        Raises:
            RuntimeError: the host has no memory that could be page-locked.
        """
        entries, count = _layout(bank)
        device = next(iter(bank.items()))[1].device
        gpu = device.type == "cuda"
        block = torch.empty(count, dtype=torch.uint8, pin_memory=gpu)
        with self._beside(device) as stream:
            for entry in entries:
                value = bank.recorded(entry.name)
                entry.view(block).copy_(value, non_blocking=gpu)
                if stream is not None:
                    value.record_stream(stream)
        return PinnedBank(entries, block, device)

    def load(self, bank: PinnedBank) -> Loading:
        """Begin to bring a bank back to where it was recorded."""
        with self._beside(bank.device) as stream:
            block = torch.empty_like(bank.block, device=bank.device)
            block.copy_(bank.block, non_blocking=stream is not None)
            arrived = None if stream is None else stream.record_event()
        return Loading(bank.entries, block, arrived)

    @contextmanager
    def _beside(self, device: torch.device) -> Iterator[torch.cuda.Stream | None]:
        """The device's stream for transfers, which begins where the computation is now; ``None`` without a GPU."""
        if device.type != "cuda":
            yield None
            return
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        stream = self._streams[device]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            yield stream


def _layout(bank: FeatureBank) -> tuple[tuple[_Entry, ...], int]:
    """Where each tensor begins in a block, and the block's bytes."""
    entries, begin = [], 0
    for name, value in bank.items():
        entries.append(_Entry(name, begin, value.shape, value.dtype))
        size = value.numel() * value.element_size()
        begin += -(-size // _ALIGNMENT) * _ALIGNMENT
    return tuple(entries), begin
