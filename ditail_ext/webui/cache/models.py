"""Source models that wait for the next picture, within a budget of main memory; the longest unused goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol


class WaitingModel(Protocol):
    """A model that nobody uses at the moment."""

    nbytes: int
    """Memory that its weights take, in bytes."""

    def release(self) -> None:
        """Give the memory back."""


class ModelCache:
    """Models by a key over all that they were made of; safe to clear from any thread.

    A model is taken out for as long as it is at work, so what clears the cache meanwhile cannot pull it away.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, WaitingModel] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: str) -> bool:
        return key in self._waiting

    @property
    def nbytes(self) -> int:
        """Memory that the waiting models take, in bytes."""
        with self._lock:
            return sum(model.nbytes for model in self._waiting.values())

    def take(self, key: str) -> WaitingModel | None:
        """The model of a key, which is the caller's from now on."""
        with self._lock:
            return self._waiting.pop(key, None)

    def put(self, key: str, model: WaitingModel, budget: int) -> bool:
        """Let a model wait, releasing others until all fit.

        Args:
            key: of the model.
            model: released at once if it alone is too large.
            budget: bytes that all may take.

        Returns:
            Whether it waits.
        """
        with self._lock:
            self._drop(key)
            self._waiting[key] = model
            self.trim(budget)
            return key in self._waiting

    def trim(self, budget: int) -> None:
        """Release the longest unused until all fit into a budget."""
        with self._lock:
            while self._waiting and self.nbytes > budget:
                self._drop(next(iter(self._waiting)))

    def release_unless(self, wanted: Callable[[WaitingModel], bool]) -> None:
        """Release the models that are not wanted any more."""
        with self._lock:
            for key in [key for key, model in self._waiting.items() if not wanted(model)]:
                self._drop(key)

    def clear(self) -> None:
        """Release all."""
        self.trim(-1)

    def _drop(self, key: str) -> None:
        model = self._waiting.pop(key, None)
        if model is not None:
            model.release()
