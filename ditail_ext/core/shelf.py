"""Recordings kept from one generation to the next, within a budget.

What a record pass stores depends on the source trajectory, the target's UNet with its LoRAs, the layer profile and
the level, and on nothing of the picture being made. The caller names all that but the level in a *run key*; a run
whose key is found again needs no record passes at all. Where a level is visited with several latents, what stands for
the level tells them apart.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import torch

from .bank import FeatureBank


class BankShelf:
    """Feature banks by run and level; the runs longest unused are dropped first. Safe to clear from any thread."""

    def __init__(self, budget: int, device: torch.device | str | None = None) -> None:
        """Start empty.

        Args:
            budget: bytes that all banks together may take.
            device: where to keep them; where they were recorded if ``None``.
        """
        self._budget = budget
        self._device = device
        self._runs: OrderedDict[str, dict[Hashable, FeatureBank]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Memory that the banks take, in bytes."""
        with self._lock:
            return self._nbytes()

    def slot(self, run_key: str, level: Hashable) -> BankSlot:
        """The place of one recording."""
        return BankSlot(self, run_key, level)

    def get(self, run_key: str, level: Hashable) -> FeatureBank | None:
        """A recording, whose run thereby becomes the last to be dropped."""
        with self._lock:
            run = self._runs.get(run_key)
            if run is None:
                return None
            self._runs.move_to_end(run_key)
            return run.get(level)

    def put(self, run_key: str, level: Hashable, bank: FeatureBank) -> bool:
        """Keep a recording if it fits; other runs make room for it, its own keeps what it has.

        Returns:
            Whether it is kept.
        """
        kept = bank if self._device is None else bank.to(self._device)
        with self._lock:
            run = self._runs.setdefault(run_key, {})
            self._runs.move_to_end(run_key)
            run.pop(level, None)
            while len(self._runs) > 1 and self._nbytes() + kept.nbytes > self._budget:
                self._runs.popitem(last=False)
            if self._nbytes() + kept.nbytes > self._budget:
                return False
            run[level] = kept
            return True

    def resize(self, budget: int) -> None:
        """Change the budget, dropping what no longer fits."""
        with self._lock:
            self._budget = budget
            while self._runs and self._nbytes() > budget:
                self._runs.popitem(last=False)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._runs.clear()

    def _nbytes(self) -> int:
        return sum(bank.nbytes for run in self._runs.values() for bank in run.values())


@dataclass(frozen=True)
class BankSlot:
    """Where one recording is looked up and kept."""

    shelf: BankShelf
    run_key: str
    level: Hashable

    def get(self) -> FeatureBank | None:
        """The recording, if it is kept."""
        return self.shelf.get(self.run_key, self.level)

    def put(self, bank: FeatureBank) -> bool:
        """Keep a recording if it fits."""
        return self.shelf.put(self.run_key, self.level, bank)
