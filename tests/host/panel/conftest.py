"""One browser for all files, and a page loaded anew for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.client import circle
from harness.pages.browser import browser
from harness.pages.page import Page
from harness.pages.panel import enable, small
from harness.server import WebUI


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser on a busy machine may miss what no person would: one more try, named in the summary as RERUN."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    with browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def window(driver: Any, webui: WebUI) -> Iterator[Page]:
    """A module's page, not loaded yet. Afterwards the browser shows nothing, for it would go on asking."""
    yield Page(driver, webui.url)
    driver.get("about:blank")


@pytest.fixture
def page(window: Page) -> Page:
    """The page, loaded anew."""
    return window.open()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "circle.png"
    circle(128, 128).save(file)
    return file


@pytest.fixture
def img2img(page: Page) -> Page:
    """The tab with the panel open and a prompt."""
    enable(page, "img2img")
    small(page, "img2img")
    return page
