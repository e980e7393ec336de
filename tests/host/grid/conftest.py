"""No grid begins with another one's cells."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from harness.probe import Probe
from harness.server import WebUI


@pytest.fixture(autouse=True)
def nothing_kept(webui: WebUI, probe: Probe) -> Iterator[None]:
    """Neither cells nor inversions of another test; alpha is loaded."""
    shutil.rmtree(webui.data / "outputs", ignore_errors=True)
    webui.txt2img(steps=2)
    probe.reset()
    yield
    shutil.rmtree(webui.data / "outputs", ignore_errors=True)
