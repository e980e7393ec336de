"""CachedBank kept from one generation to the next, within a budget.

What a record pass stores depends on the source trajectory, the target's UNet with its LoRAs, the layer profile and
the level, and on nothing of the picture being made. The caller names all that but the level in a *run key*; a run
whose key is found again needs no record passes at all. Where a level is visited with several latents, what stands for
the level tells them apart.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ..injection import FeatureBank
from .device_memory import is_out_of_memory


class CachedBank(Protocol):
    """What lies in one place of a cache: recordings by site name."""

    @property
    def nbytes(self) -> int:
        """Memory that they take, in bytes."""
        ...

    def __contains__(self, name: str) -> bool: ...


Item = TypeVar("Item", bound=CachedBank)


class BankCache(Generic[Item]):
    """Feature banks by run and level; the runs longest unused are dropped first. Safe to clear from any thread."""

    def __init__(self, budget: int, dropped: Callable[[str, Hashable, Item], object] | None = None) -> None:
        """Start empty.

        Args:
            budget: bytes that all banks together may take.
            dropped: given what is dropped for want of room, with its run and level.
        """
        self._budget = budget
        self._dropped = dropped
        self._runs: OrderedDict[str, dict[Hashable, Item]] = OrderedDict()
        self._lock = threading.RLock()

    def __contains__(self, run_key: str) -> bool:
        return run_key in self._runs

    @property
    def nbytes(self) -> int:
        """Memory that the banks take, in bytes."""
        with self._lock:
            return sum(bank.nbytes for run in self._runs.values() for bank in run.values())

    def slot(self, run_key: str, level: Hashable) -> BankSlot:
        """The place of one recording, on a cache of banks."""
        return BankSlot(self, run_key, level)  # type: ignore[arg-type]

    def get(self, run_key: str, level: Hashable) -> Item | None:
        """A recording, whose run thereby becomes the last to be dropped."""
        with self._lock:
            run = self._runs.get(run_key)
            if run is None:
                return None
            self._runs.move_to_end(run_key)
            return run.get(level)

    def holds(self, run_key: str, level: Hashable, names: Collection[str]) -> bool:
        """Whether there is a recording with all these sites."""
        with self._lock:
            bank = self._runs.get(run_key, {}).get(level)
            return bank is not None and all(name in bank for name in names)

    def put(self, run_key: str, level: Hashable, bank: Item) -> bool:
        """Keep a recording if it fits; other runs make room for it, its own keeps what it has.

        Returns:
            Whether it is kept.
        """
        with self._lock:
            self.discard(run_key, level)
            if not self.could_take(run_key, bank.nbytes):
                return False  # and no other run is dropped for what would not fit anyway
            run = self._runs.setdefault(run_key, {})
            self._runs.move_to_end(run_key)
            while len(self._runs) > 1 and not self.fits(bank):
                self._drop_oldest()
            if not self.fits(bank):
                return False
            run[level] = bank
            return True

    def fits(self, bank: Item) -> bool:
        """Whether there is room for a recording beside all that is kept."""
        return self.nbytes + bank.nbytes <= self._budget

    def could_take(self, run_key: str, nbytes: int) -> bool:
        """Whether there would be room for so many bytes more of a run if all others were dropped."""
        with self._lock:
            own = sum(bank.nbytes for bank in self._runs.get(run_key, {}).values())
            return own + nbytes <= self._budget

    def discard(self, run_key: str, level: Hashable) -> None:
        """Forget one recording."""
        with self._lock:
            self._runs.get(run_key, {}).pop(level, None)

    def resize(self, budget: int) -> None:
        """Change the budget, dropping what no longer fits."""
        with self._lock:
            self._budget = budget
            while self._runs and self.nbytes > budget:
                self._drop_oldest()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._runs.clear()

    def _drop_oldest(self) -> None:
        run_key, run = self._runs.popitem(last=False)
        if self._dropped is not None:
            for level, bank in run.items():
                self._dropped(run_key, level, bank)


class BankStore(Protocol):
    """Where banks are kept by run and level."""

    def get(self, run_key: str, level: Hashable) -> FeatureBank | None:
        """A recording, ready where the UNet computes."""
        ...

    def holds(self, run_key: str, level: Hashable, names: Collection[str]) -> bool:
        """Whether there is a recording with all these sites."""
        ...

    def put(self, run_key: str, level: Hashable, bank: FeatureBank) -> bool:
        """Keep a recording if it fits, and say whether it does."""
        ...


@dataclass(frozen=True)
class BankSlot:
    """Where one recording is looked up and kept."""

    cache: BankStore
    run_key: str
    level: Hashable

    def get(self) -> FeatureBank | None:
        """The recording, if it is kept and there is memory to fetch it: else it is recorded anew."""
        try:
            return self.cache.get(self.run_key, self.level)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def holds(self, names: Collection[str]) -> bool:
        """Whether it is kept, with all these sites."""
        return self.cache.holds(self.run_key, self.level, names)

    def put(self, bank: FeatureBank) -> bool:
        """Keep a recording if it fits; nothing needs it to be kept."""
        try:
            return self.cache.put(self.run_key, self.level, bank)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
