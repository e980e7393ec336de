"""The panel in a browser: seen, filled in, kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from harness.pages.browser import missing
from harness.pages.page import Page, wait
from harness.pages.panel import control, enable, generate, number, small, unfold
from harness.server import WebUI

pytestmark = [pytest.mark.server("panel"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]


SHOTS = os.environ.get("DITAIL_SCREENSHOTS")
"""Folder for the pictures of the panel; the documentation's are made with it."""


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_the_panel_shows(page: Page, tab: str, tmp_path: Path):
    enable(page, tab)
    unfold(page, tab, "inversion")
    unfold(page, tab, "advanced")
    wait(lambda: page.visible(control(tab, "inversion_prompt", "textarea")), "the inversion's part")
    assert page.visible(f"#script_{tab}_ditail_clear_cache")
    assert page.run(f"return gradioApp().querySelector('#script_{tab}_ditail_mask') !== null") is True
    assert (page.run("return gradioApp().querySelector('#script_txt2img_ditail_picture') !== null")) is True
    assert (page.run("return gradioApp().querySelector('#script_img2img_ditail_picture') === null")) is True
    page.set(number(tab, "negative_scale"), 0.5)
    time.sleep(0.5)
    shot = Path(SHOTS or tmp_path) / f"panel-{tab}.png"
    page.shoot(f"#script_{tab}_ditail_enabled", shot)
    assert shot.stat().st_size > 10_000
    assert page.severe() == []


def test_values_stay_over_tab_switches(page: Page):
    enable(page, "img2img")
    page.set(number("img2img", "positive_scale"), 4.5)
    page.choose("#script_img2img_ditail_source_checkpoint", "gamma.safetensors")
    page.tab("txt2img")
    page.tab("img2img")
    assert page.value(number("img2img", "positive_scale")) == "4.5"
    assert page.value(control("img2img", "source_checkpoint")) == "gamma.safetensors"
    assert page.visible("#script_img2img_ditail_source_checkpoint")
    assert page.value(number("txt2img", "positive_scale")) == "3"


def test_saved_defaults_hold_after_a_reload(page: Page):
    assert page.value(number("img2img", "negative_scale")) == "1.5"
    assert page.value(number("txt2img", "negative_scale")) == "0.5"
    page.set(number("img2img", "negative_scale"), 7)
    page.open()
    assert page.value(number("img2img", "negative_scale")) == "1.5"


def test_two_windows_have_values_of_their_own(page: Page, webui: WebUI, picture: Path):
    first = page.driver.current_window_handle
    enable(page, "txt2img")
    small(page, "txt2img")
    page.set(number("txt2img", "positive_scale"), 1)
    page.upload("#script_txt2img_ditail_picture", picture)
    page.driver.switch_to.new_window("tab")
    second = Page(page.driver, webui.url).open()
    small(second, "txt2img")
    assert "Ditail" not in generate(second, "txt2img")
    second.driver.close()
    page.driver.switch_to.window(first)
    assert "Ditail positive scale: 1.0" in generate(page, "txt2img").replace("scale: 1,", "scale: 1.0,")


def test_the_list_is_refreshed(page: Page, webui: WebUI):
    enable(page, "img2img")
    new = webui.checkpoints / "new.safetensors"
    new.symlink_to((webui.checkpoints / "delta.safetensors").resolve())
    try:
        page.click("#script_img2img_ditail_source_checkpoint_refresh")
        wait(lambda: "new.safetensors" in page.options("#script_img2img_ditail_source_checkpoint"), "the new file")
    finally:
        new.unlink()
        webui.post("/sdapi/v1/refresh-checkpoints")


def test_the_cache_is_cleared_by_a_click(page: Page, webui: WebUI, picture: Path):
    enable(page, "txt2img")
    small(page, "txt2img")
    page.upload("#script_txt2img_ditail_picture", picture)
    generate(page, "txt2img")
    assert webui.get("/ditail/v1/cache").body["inversions"] > 0
    page.click("#script_txt2img_ditail_clear_cache")
    wait(lambda: webui.get("/ditail/v1/cache").body["inversions"] == 0, "the cache to be empty")
    wait(lambda: "cleared" in page.text("#script_txt2img_ditail_advanced_section .ditail-help"), "the message")
