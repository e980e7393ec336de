"""The region mask painted on the tab's own picture, in a browser."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from harness.pages.browser import missing
from harness.pages.page import Page, wait
from harness.pages.panel import control, generate, unfold

pytestmark = [pytest.mark.server("panel"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]


def test_painting_on_the_picture_chooses_the_region(img2img: Page, picture: Path):
    img2img.upload("#img2img_image", picture)
    unfold(img2img, "img2img", "region")
    wait(lambda: img2img.visible("#script_img2img_ditail_paint"), "the part to open")
    img2img.click("#script_img2img_ditail_paint")
    place = "#script_img2img_ditail_mask"
    wait(lambda: img2img.run(f"return gradioApp().querySelector('{place} canvas') !== null"), "the picture there")
    wait(lambda: img2img.checked(control("img2img", "region", "input[value='region mask']")), "the region")
    time.sleep(1)
    img2img.paint(place, 0.2, 0.2)
    assert "Ditail region: region mask" in generate(img2img, "img2img")


def test_a_sketch_that_missed_its_size_is_given_it(img2img: Page, picture: Path):
    """On a busy page gradio's canvases may stay without a size for ever: here, by hand, then as after the picture."""
    img2img.upload("#img2img_image", picture)
    unfold(img2img, "img2img", "region")
    wait(lambda: img2img.visible("#script_img2img_ditail_paint"), "the part to open")
    img2img.click("#script_img2img_ditail_paint")
    place = "#script_img2img_ditail_mask"
    sizes = f"return [...gradioApp().querySelectorAll('{place} canvas')].map((one) => [one.width, one.style.height])"
    wait(lambda: img2img.run(sizes) == [[128, "258px"]] * 4, "the canvases' size")
    time.sleep(2)  # it may just be given it
    lose = "one.width = 300; one.height = 150; one.style.width = one.style.height = ''"
    lost = f"for (const one of gradioApp().querySelectorAll('{place} canvas')) {{ {lose} }} {sizes}"
    assert img2img.run(lost) == [[300, ""]] * 4
    img2img.run(f"gradioApp().querySelector('{place} img').dispatchEvent(new Event('load'))")
    wait(lambda: img2img.run(sizes) == [[128, "258px"]] * 4, "the size again", 20)
    assert img2img.run(f"return gradioApp().querySelector('{place}').style.height") == "260px"
    img2img.paint(place, 0.2, 0.2)
    assert "Ditail mask: " in generate(img2img, "img2img")
