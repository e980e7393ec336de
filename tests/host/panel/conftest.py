"""One browser for each file, and a page loaded anew for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.client import circle
from harness.pages.browser import browser
from harness.pages.page import Page
from harness.server import WebUI


@pytest.fixture(scope="module")
def window(webui: WebUI) -> Iterator[Page]:
    with browser() as driver:
        yield Page(driver, webui.url)


@pytest.fixture
def page(window: Page) -> Page:
    """The page, loaded anew."""
    window.open()
    return window


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "circle.png"
    circle(128, 128).save(file)
    return file
