"""Recordings kept where the UNet computes as far as they fit there, the others in the host's memory.

A run is read in the order in which it was recorded, so while one level is used the next one is on its way.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Hashable
from typing import NamedTuple

from ..injection import FeatureBank
from .bank_cache import BankCache, BankSlot
from .device_memory import is_out_of_memory
from .pinned_memory import Loading, PinnedBank, PinnedMemory

logger = logging.getLogger("ditail")


class _Coming(NamedTuple):
    run_key: str
    level: Hashable
    loading: Loading


class PrefetchingCache:
    """A cache of two: near the UNet, and in the host's memory. Safe to clear from any thread.

    What has to leave the near one for another run goes to the far one, and comes back where there is room again.
    """

    def __init__(self, budget: int, host_budget: int, memory: PinnedMemory | None = None) -> None:
        """Start empty.

        Args:
            budget: bytes that may be taken where the UNet computes.
            host_budget: bytes of the host's memory.
            memory: does the transfers.
        """
        self._memory = memory or PinnedMemory()
        self._device: BankCache[FeatureBank] = BankCache(budget, dropped=self._send)
        self._pinned: BankCache[PinnedBank] = BankCache(host_budget)
        self._orders: dict[str, dict[Hashable, None]] = {}
        self._coming: _Coming | None = None
        self._lock = threading.RLock()

    @property
    def nbytes(self) -> int:
        """Memory taken where the UNet computes, in bytes."""
        return self._device.nbytes

    @property
    def host_nbytes(self) -> int:
        """Memory taken of the host's, in bytes."""
        return self._pinned.nbytes

    def slot(self, run_key: str, level: Hashable) -> BankSlot:
        """The place of one recording."""
        return BankSlot(self, run_key, level)

    def holds(self, run_key: str, level: Hashable, names: Collection[str]) -> bool:
        """Whether there is a recording with all these sites."""
        return self._device.holds(run_key, level, names) or self._pinned.holds(run_key, level, names)

    def get(self, run_key: str, level: Hashable) -> FeatureBank | None:
        """A recording where the UNet computes; the one that follows it in its run is sent for."""
        with self._lock:
            bank = self._device.get(run_key, level)
            if bank is None:
                bank = self._fetch(run_key, level)
            self._send_for_next(run_key, level)
            return bank

    def put(self, run_key: str, level: Hashable, bank: FeatureBank) -> bool:
        """Keep a recording near, or else far; other runs make room for it.

        Returns:
            Whether it is kept.
        """
        with self._lock:
            self._pinned.discard(run_key, level)
            kept = self._device.put(run_key, level, bank) or self._send(run_key, level, bank)
            self._orders.setdefault(run_key, {})[level] = None
            for gone in [key for key in self._orders if key not in self._device and key not in self._pinned]:
                del self._orders[gone]
            return kept

    def resize(self, budget: int, host_budget: int) -> None:
        """Change the budgets; what no longer fits near goes far, and what no longer fits there is dropped."""
        with self._lock:
            self._pinned.resize(host_budget)
            self._device.resize(budget)

    def make_room(self) -> None:
        """Take nothing where the UNet computes until the next recording is kept."""
        with self._lock:
            self._coming = None
            self._device.resize(0)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._coming = None
            self._device.clear()
            self._pinned.clear()
            self._orders.clear()

    def _send(self, run_key: str, level: Hashable, bank: FeatureBank) -> bool:
        """Keep a recording in the host's memory, if there is any to be had."""
        if not self._pinned.could_take(run_key, bank.nbytes):
            return False
        try:
            return self._pinned.put(run_key, level, self._memory.store(bank))
        except RuntimeError as error:  # of page-locked memory a host gives less than it has free
            logger.info("Recorded features are not kept in main memory: %s", error)
            return False

    def _fetch(self, run_key: str, level: Hashable) -> FeatureBank | None:
        stored = self._pinned.get(run_key, level)
        if stored is None:
            return None
        coming, self._coming = self._coming, None
        if coming is None or (coming.run_key, coming.level) != (run_key, level):
            coming = _Coming(run_key, level, self._memory.load(stored))
        bank = coming.loading.ready()
        if self._device.fits(bank):
            self._device.put(run_key, level, bank)
            self._pinned.discard(run_key, level)
        return bank

    def _send_for_next(self, run_key: str, level: Hashable) -> None:
        levels = iter(self._orders.get(run_key, {}))
        following = next((after for at in levels if at == level for after in levels), None)
        if self._coming is not None and (self._coming.run_key, self._coming.level) == (run_key, following):
            return
        stored = None if following is None else self._pinned.get(run_key, following)
        self._coming = None
        if stored is None:
            return
        try:
            self._coming = _Coming(run_key, following, self._memory.load(stored))
        except RuntimeError as error:  # to fetch ahead is optional: when its turn comes there may be room
            if not is_out_of_memory(error):
                raise
            logger.info("There is no memory to fetch recorded features ahead")
