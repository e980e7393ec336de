"""Finished cells on disk, by which a grid that was broken off goes on where it ended."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...core.files import write_whole
from ...errors import OutputError

logger = logging.getLogger("ditail")

FOLDER = "ditail-grid-cells"
"""Below the host's output folder for grids."""


@dataclass(frozen=True)
class FinishedCell:
    """A cell's picture and its infotext."""

    picture: Image.Image
    infotext: str


class CellStore:
    """Cells by a key over everything that they depend on.

    Raises:
        OutputError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refusal(error) from error

    def get(self, key: str) -> FinishedCell | None:
        """The cell of a key, which thereby becomes the last to be forgotten; none if it is damaged."""
        file = self._file(key)
        if not file.is_file():
            return None
        try:
            with Image.open(file) as picture:
                picture.load()
                infotext = str(picture.info.pop("parameters"))
            file.touch()
        except (OSError, SyntaxError, ValueError, KeyError):
            logger.warning("The kept grid cell %s is damaged; it is made again", file)
            return None
        return FinishedCell(picture, infotext)

    def put(self, key: str, cell: FinishedCell) -> None:
        """Keep a cell.

        Raises:
            OutputError: it cannot be written.
        """
        text = PngInfo()
        text.add_text("parameters", cell.infotext)
        buffer = io.BytesIO()
        cell.picture.save(buffer, "PNG", pnginfo=text)
        self._write(self._file(key), buffer.getvalue())

    def seeds(self, name: str) -> list[int] | None:
        """Seeds drawn for an unfinished grid that asked for random ones."""
        try:
            seeds = json.loads(self._seeds_file(name).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return seeds if isinstance(seeds, list) else None

    def keep_seeds(self, name: str, seeds: list[int]) -> None:
        """Remember the seeds of a grid until :meth:`forget_seeds`.

        Raises:
            OutputError: they cannot be written.
        """
        self._write(self._seeds_file(name), json.dumps(seeds).encode())

    def forget_seeds(self, name: str) -> None:
        """The grid is finished: the next one draws anew."""
        self._seeds_file(name).unlink(missing_ok=True)

    def trim(self, limit: int, spare: Collection[str] = ()) -> None:
        """Forget the longest unused cells until the rest fits.

        Args:
            limit: bytes that all cells may take.
            spare: keys that are kept in any case.
        """
        files = sorted(self._folder.glob("*.png"), key=lambda file: file.stat().st_mtime)
        size = sum(file.stat().st_size for file in files)
        for file in files:
            if size <= limit:
                return
            if file.stem not in spare:
                size -= file.stat().st_size
                file.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.png"

    def _seeds_file(self, name: str) -> Path:
        return self._folder / f"{name}.seeds.json"

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_whole(path, content)
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> OutputError:
        return OutputError(
            f"The grid's cells cannot be kept in {self._folder} ({error.strerror}); make room or choose another "
            "output directory for grids."
        )
