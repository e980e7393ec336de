"""A headless Chromium."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NO_BROWSER = "no Chromium found: put chromium and chromedriver on the PATH to test the panel"
NO_SELENIUM = "no selenium: install requirements/test.txt to test the panel"

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--window-size=1500,3200", "--force-device-scale-factor=1", "--lang=en"),
)


def missing() -> str | None:
    """What a browser test lacks here; ``None`` if nothing."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return NO_SELENIUM
    return None if _chromium() and shutil.which("chromedriver") else NO_BROWSER


def _chromium() -> str | None:
    return next((path for name in CHROMIUMS if (path := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium of its own, with an empty profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(prefix="ditail-chromium-", ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = _chromium() or ""
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.page_load_strategy = "none"  # the page waits for hosts that may not be reached
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()
