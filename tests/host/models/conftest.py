"""Further checkpoints for the time of a file's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.server import WebUI


@pytest.fixture(scope="module")
def other_families(webui: WebUI, family_files: Path) -> Iterator[WebUI]:
    """With narrow SDXL and SD2 checkpoints: ``xl-alpha``, ``xl-beta``, ``sd2-alpha``, ``sd2-beta``."""
    links = [webui.checkpoints / file.name for file in family_files.iterdir() if file.name != "complete"]
    for link in links:
        link.symlink_to(family_files / link.name)
    webui.post("/sdapi/v1/refresh-checkpoints")
    yield webui
    webui.txt2img(steps=2)  # the option's checkpoint again
    for link in links:
        link.unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")
