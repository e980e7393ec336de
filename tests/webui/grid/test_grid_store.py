"""Finished cells on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from ditail_ext.errors import OutputError
from ditail_ext.webui.grid.store import CellStore, FinishedCell


def cell(colour: str = "red", text: str = "a circle\nSteps: 6, Größe: 1x1") -> FinishedCell:
    return FinishedCell(Image.new("RGB", (8, 8), colour), text)


def test_a_cell_comes_back_with_its_infotext(tmp_path: Path):
    store = CellStore(tmp_path / "new" / "folder")
    store.put("one", cell())
    found = CellStore(tmp_path / "new" / "folder").get("one")
    assert found is not None
    assert found.infotext == cell().infotext
    assert found.picture.tobytes() == cell().picture.tobytes()
    assert store.get("two") is None


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", None])
def test_a_damaged_cell_is_made_again(tmp_path: Path, content: bytes | None):
    store = CellStore(tmp_path)
    store.put("one", cell())
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-30] if content is None else content)
    assert store.get("one") is None


def test_a_picture_without_infotext_is_no_cell(tmp_path: Path):
    cell().picture.save(tmp_path / "one.png")
    assert CellStore(tmp_path).get("one") is None


def test_the_longest_unused_are_forgotten_first(tmp_path: Path):
    store = CellStore(tmp_path)
    for age, key in enumerate(["new", "used", "old", "spared"]):
        store.put(key, cell())
        os.utime(tmp_path / f"{key}.png", (1000 - age, 1000 - age))
    store.get("used")
    one = (tmp_path / "new.png").stat().st_size
    store.trim(3 * one, spare=["spared"])
    assert sorted(file.stem for file in tmp_path.iterdir()) == ["new", "spared", "used"]
    store.trim(2 * one, spare=["spared"])
    assert sorted(file.stem for file in tmp_path.iterdir()) == ["spared", "used"]
    store.trim(0)
    assert list(tmp_path.iterdir()) == []


def test_seeds_are_kept_until_the_grid_is_finished(tmp_path: Path):
    store = CellStore(tmp_path)
    assert store.seeds("grid") is None
    store.keep_seeds("grid", [5, 6])
    assert store.seeds("grid") == [5, 6]
    store.forget_seeds("grid")
    store.forget_seeds("grid")
    assert store.seeds("grid") is None


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="another output directory"):
        CellStore(tmp_path / "file" / "folder")
