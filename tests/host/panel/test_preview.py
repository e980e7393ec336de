"""The panel in a browser: what comes back of an inversion, and how the work is stopped."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from harness.pages.browser import missing
from harness.pages.page import Page, wait
from harness.pages.panel import enable, generate, number, panel_click, says, small, unfold
from harness.server import WebUI

pytestmark = [pytest.mark.server("panel"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]

SHOTS = os.environ.get("DITAIL_SCREENSHOTS")
SOURCE = "#script_img2img_ditail_source_checkpoint"
WORDS = "#script_img2img_ditail_preview_words"
SHEET = "#script_img2img_ditail_preview_sheet"


@pytest.fixture
def img2img(page: Page, picture: Path) -> Page:
    """The tab with the panel open, a picture and a prompt."""
    enable(page, "img2img")
    small(page, "img2img")
    page.upload("#img2img_image", picture)
    return page


def preview(page: Page, what: str = "error") -> str:
    page.click("#script_img2img_ditail_preview")
    return wait(lambda: what in (text := page.text(WORDS)) and text, f"'{what}' in the preview", 90)


def test_what_comes_back_and_how_well(img2img: Page, tmp_path: Path):
    """Random networks return nothing: the error is large, and reasons are named."""
    img2img.choose(SOURCE, "beta.safetensors")
    unfold(img2img, "img2img", "inversion")
    img2img.set(number("img2img", "positive_scale"), 9)
    said = preview(img2img)
    assert said.startswith("beta: error ")
    error = float(re.search(r"error ([\d.]+)", said).group(1))
    assert error > 0.2
    assert "Positive scale is 9" in said
    assert "5 steps are few" in said
    width = f"return gradioApp().querySelector('{SHEET} img')?.naturalWidth"
    assert wait(lambda: img2img.run(width), "the sheet", 20) >= 3 * 128
    img2img.shoot("#script_img2img_ditail_enabled", Path(SHOTS or tmp_path) / "panel-preview.png")
    assert img2img.severe() == []


def test_nothing_of_the_target_changes(img2img: Page, webui: WebUI):
    plain = webui.with_alpha().pixels
    img2img.choose(SOURCE, "beta.safetensors")
    preview(img2img)
    assert webui.with_alpha().pixels == plain
    assert "Ditail source: beta.safetensors" in generate(img2img, "img2img")


def test_interrupt_ends_it(img2img: Page):
    img2img.choose(SOURCE, "beta.safetensors")
    img2img.set("#img2img_steps input[type=number]", 150)
    img2img.click("#script_img2img_ditail_preview")
    wait(lambda: img2img.visible("#img2img_interrupt"), "the button", 30)
    wait(lambda: "inverting" in img2img.text("#img2img_results .progress"), "the progress bar", 60)
    img2img.click("#img2img_interrupt")
    wait(lambda: "Stopped" in img2img.text(WORDS), "the end", 60)
    wait(lambda: img2img.visible("#img2img_generate"), "the button Generate again", 30)


def test_a_source_that_cannot_be_loaded_is_said(img2img: Page, webui: WebUI):
    damaged = webui.checkpoints / "damaged.safetensors"
    damaged.write_bytes(b"no checkpoint at all")
    try:
        img2img.click(f"{SOURCE}_refresh")
        img2img.choose(SOURCE, "damaged.safetensors")
        panel_click(img2img, "img2img", ".label-wrap")  # closed and open again, Ditail off
        panel_click(img2img, "img2img", ".label-wrap")
        says(img2img, "img2img", "damaged or cut short")
        preview(img2img, "damaged or cut short")
    finally:
        damaged.unlink()
        webui.post("/sdapi/v1/refresh-checkpoints")
