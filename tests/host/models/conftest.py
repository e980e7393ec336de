"""Further checkpoints for the time of a file's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.families import families_in
from harness.server import WebUI


@pytest.fixture(scope="module")
def other_families(webui: WebUI, family_files: Path) -> Iterator[WebUI]:
    """With narrow SDXL and SD2 checkpoints."""
    with families_in(webui, family_files):
        yield webui
