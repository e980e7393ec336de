"""Source trajectories kept on disk, where they outlive the WebUI; only if the user gives them room."""

from __future__ import annotations

import io
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modules import paths_internal

from ...core import SourceTrajectory
from ...errors import TrajectoryError

logger = logging.getLogger("ditail")

_NOTHING = "nothing"
"""Key of an entry without content, set to make the index look after its size."""


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
        except _failures() as error:
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
                content = trajectory.to_bytes()
                index.set(key, io.BytesIO(content), read=True)
                for _ in range(len(index)):
                    if index.volume() <= limit:
                        break
                    index.set(_NOTHING, b"")  # what is set makes the longest unused one go; ``cull`` takes ten
                index.pop(_NOTHING, None)
        except _failures() as error:
            logger.warning("The inversion could not be kept on disk: %s", error)

    def clear(self) -> None:
        """Forget everything."""
        if not self._folder.is_dir():
            return
        try:
            with self._index() as index:
                index.clear()
        except _failures() as error:  # a damaged index says nothing of the files, and they are ours
            logger.warning("The inversions kept on disk are removed with their damaged index: %s", error)
            shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _index(self) -> Iterator[Any]:
        import diskcache

        with diskcache.Cache(str(self._folder), eviction_policy="least-recently-used") as index:
            yield index


def _failures() -> tuple[type[Exception], ...]:
    """What may go wrong with an index: it is optional, and never ends a generation."""
    import diskcache

    return OSError, sqlite3.Error, diskcache.Timeout


def trajectory_folder() -> TrajectoryFolder:
    """The folder of this WebUI, in its data directory."""
    return TrajectoryFolder(Path(paths_internal.data_path) / "cache" / "ditail")
