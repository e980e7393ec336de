"""The page built again by "Reload UI", in the running WebUI.

The first of its folder: gradio waits, for ever, for connections that a page of another test has left open.
"""

from __future__ import annotations

from typing import Any

import pytest
from harness.pages.browser import browser, missing
from harness.pages.page import Page, wait
from harness.pages.panel import enable, number
from harness.server import WebUI

pytestmark = [pytest.mark.server("panel"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]


def test_everything_is_there_after_reload_ui(webui: WebUI):
    built = webui.starts
    webui.post("/sdapi/v1/options", {"ditail_cache_mb": 128})
    with browser() as driver:
        Page(driver, webui.url).open().click("#settings_restart_gradio")
        wait(lambda: "Restarting UI" in webui.log(), "the WebUI to begin")
    # Only now another browser: a request that comes while it starts makes the host fail.
    wait(lambda: webui.starts == built + 1, "the page to be built again")
    with browser() as driver:
        page = Page(driver, webui.url).open()
        assert page.value(number("img2img", "negative_scale")) == "1.5"
        enable(page, "img2img")
    assert webui.get("/sdapi/v1/options").body["ditail_cache_mb"] == 128
    arguments: list[Any] = webui.get("/ditail/v1/schema").body["arguments"]
    assert arguments[0]["name"] == "enabled"
    plots = [info for info in webui.get("/sdapi/v1/script-info").body if info["name"] == "x/y/z plot"]
    assert all(info["args"][0]["choices"].count("[Ditail] Feature ratio") == 1 for info in plots)
    assert webui.img2img({}).status == 200
    webui.post("/sdapi/v1/options", {"ditail_cache_mb": 256})
