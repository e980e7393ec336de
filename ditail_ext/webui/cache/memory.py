"""What is cached between generations, the longest unused dropped first: trajectories, features, source models."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from ...core import PrefetchingCache, SourceTrajectory, Trace
from . import disk
from .models import ModelCache

Cached = SourceTrajectory | Trace


class TrajectoryCache:
    """Trajectories, inverted or recorded, by a key over all that they depend on; safe to clear from any thread."""

    def __init__(self) -> None:
        self._cached: OrderedDict[str, Cached] = OrderedDict()
        self._lock = threading.Lock()
        self._holders = 0

    def __len__(self) -> int:
        return len(self._cached)

    @property
    def nbytes(self) -> int:
        """Memory that the latents take, in bytes."""
        with self._lock:
            return self._nbytes()

    def get(self, key: str) -> Cached | None:
        """The trajectory of a key, which thereby becomes the last to be forgotten."""
        with self._lock:
            found = self._cached.get(key)
            if found is not None:
                self._cached.move_to_end(key)
            return found

    def put(self, key: str, trajectory: Cached, limit: int) -> None:
        """Keep a trajectory (on the CPU), forgetting others until all fit.

        Args:
            key: of the trajectory.
            trajectory: not kept if it alone is too large.
            limit: bytes that all may take.
        """
        with self._lock:
            self._cached.pop(key, None)
            if trajectory.nbytes > limit and not self._holders:
                return  # others would be forgotten for what cannot be kept
            self._cached[key] = trajectory.to("cpu")
            self._cached.move_to_end(key)
            self._trim(limit)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._cached.clear()

    @contextmanager
    def holding(self, limit: int) -> Iterator[None]:
        """Forget nothing for want of room until the end, when all must fit into ``limit`` bytes again."""
        with self._lock:
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                self._trim(limit)

    def _trim(self, limit: int) -> None:
        while not self._holders and self._cached and self._nbytes() > limit:
            self._cached.popitem(last=False)

    def _nbytes(self) -> int:
        return sum(kept.nbytes for kept in self._cached.values())


trajectories = TrajectoryCache()
features = PrefetchingCache(0, 0)
models = ModelCache()


def clear() -> None:
    """Forget everything that is kept, in memory and on disk."""
    trajectories.clear()
    features.clear()
    models.clear()
    disk.trajectory_folder().clear()
