"""Source trajectories kept on disk, where they outlive the WebUI; only if the user gives them room."""

from __future__ import annotations

import io
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modules import paths_internal

from ...core import SourceTrajectory
from ...errors import TrajectoryError

logger = logging.getLogger("ditail")


class TrajectoryFolder:
    """Trajectories in a folder, by a key over everything that they depend on.

    ``diskcache`` keeps the index, forgets the longest unused, and lets several processes share the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> SourceTrajectory | None:
        """The trajectory of a key; one that cannot be read is forgotten."""
        if not self._folder.is_dir():
            return None
        try:
            with self._index() as index:
                return self._read(index, key)
        except (OSError, sqlite3.Error) as error:
            logger.warning("The inversions kept on disk cannot be read: %s", error)
            return None

    def _read(self, index: Any, key: str) -> SourceTrajectory | None:
        file = index.get(key, read=True)
        if file is None:
            return None
        try:
            with file:
                return SourceTrajectory.load(file.name)
        except TrajectoryError:
            logger.warning("A kept inversion is damaged; the picture is inverted again")
            index.delete(key)
            return None

    def put(self, key: str, trajectory: SourceTrajectory, limit: int) -> None:
        """Keep a trajectory, forgetting others until all fit.

        Args:
            key: of the trajectory.
            trajectory: what to keep.
            limit: bytes that all may take; 0 keeps none.
        """
        if limit <= 0:
            return
        try:
            with self._index() as index:
                index.reset("size_limit", limit)
                index.reset("cull_limit", 1)  # by default ten go at once, however little must
                index.set(key, io.BytesIO(trajectory.to_bytes()), read=True)
                index.cull()
        except (OSError, sqlite3.Error) as error:
            logger.warning("The inversion could not be kept on disk: %s", error)

    def clear(self) -> None:
        """Forget everything."""
        if self._folder.is_dir():
            with self._index() as index:
                index.clear()

    @contextmanager
    def _index(self) -> Iterator[Any]:
        import diskcache

        with diskcache.Cache(str(self._folder), eviction_policy="least-recently-used") as index:
            yield index


def trajectory_folder() -> TrajectoryFolder:
    """The folder of this WebUI, in its data directory."""
    return TrajectoryFolder(Path(paths_internal.data_path) / "cache" / "ditail")
