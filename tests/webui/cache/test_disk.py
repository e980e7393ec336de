"""Inversions kept on disk: found again by another process, within their space, never in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ditail_ext.core import Level, SourceTrajectory

LEVELS = [Level.clean(), Level(1.0, 0.9), Level(501.0, 0.3)]


def trajectory(seed: int) -> SourceTrajectory:
    latents = torch.randn(3, 1, 4, 32, 32, generator=torch.Generator().manual_seed(seed))
    return SourceTrajectory(LEVELS, latents, {"key": str(seed)})


SIZE = 3 * 4 * 32 * 32 * 4


@pytest.fixture
def folder(host: Any, tmp_path: Path) -> Any:
    return host.load("cache.disk").TrajectoryFolder(tmp_path / "kept")


def test_another_process_finds_it_again(host: Any, folder: Any, tmp_path: Path):
    kept = trajectory(1)
    folder.put("a", kept, 100 * SIZE)
    found = host.load("cache.disk").TrajectoryFolder(tmp_path / "kept").get("a")
    assert torch.equal(found.latents, kept.latents)
    assert (found.levels, found.metadata) == (kept.levels, kept.metadata)
    assert folder.get("b") is None


def test_the_longest_unused_makes_room(folder: Any):
    for index in range(16):
        folder.put(str(index), trajectory(index), 8 * SIZE)
        folder.get("0")
    found = [index for index in range(16) if folder.get(str(index)) is not None]
    assert 0 in found
    assert 15 in found
    assert len(found) <= 8


def test_a_damaged_file_is_forgotten(folder: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder.put("a", trajectory(1), 100 * SIZE)
    (file,) = (tmp_path / "kept").rglob("*.val")
    file.write_bytes(file.read_bytes()[:1000])
    assert folder.get("a") is None
    assert "damaged" in caplog.text
    folder.put("a", trajectory(2), 100 * SIZE)
    assert folder.get("a").metadata == {"key": "2"}


def test_no_space_keeps_nothing_and_makes_no_folder(folder: Any, tmp_path: Path):
    folder.put("a", trajectory(1), 0)
    folder.clear()
    assert folder.get("a") is None
    assert list(tmp_path.iterdir()) == []


def test_clear(folder: Any):
    folder.put("a", trajectory(1), 100 * SIZE)
    folder.clear()
    assert folder.get("a") is None


def test_a_disk_that_refuses_does_not_stop_the_generation(
    folder: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "kept").write_text("a file in the folder's place")
    folder.put("a", trajectory(1), 100 * SIZE)
    assert "could not be kept on disk" in caplog.text


def test_a_broken_index_stops_nothing(folder: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder.put("a", trajectory(1), 100 * SIZE)
    for file in (tmp_path / "kept").glob("cache.db*"):
        file.write_bytes(b"not a database" * 100)
    assert folder.get("a") is None
    assert "cannot be read" in caplog.text
