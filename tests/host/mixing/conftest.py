"""Checkpoints of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.mixes import HALFWAY, merge
from harness.server import WebUI


@pytest.fixture
def add_file(webui: WebUI) -> Iterator[Callable[[str], Path]]:
    """Gives the path of a checkpoint of one's own, removed after the test; to be refreshed when it is written."""
    made: list[Path] = []

    def add(name: str) -> Path:
        made.append(webui.checkpoints / name)
        return made[-1]

    yield add
    for path in made:
        path.unlink()
        path.with_suffix(".yaml").unlink(missing_ok=True)
    webui.post("/sdapi/v1/refresh-checkpoints")


@pytest.fixture
def halfway(webui: WebUI, add_file: Callable[[str], Path]) -> str:
    """The checkpoint halfway from alpha to delta."""
    add_file(HALFWAY)
    merge(webui, HALFWAY)
    return HALFWAY
