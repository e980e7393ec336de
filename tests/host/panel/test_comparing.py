"""A finished picture beside its content and what the target makes alone of the same start, in a browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness.client import SQUARE, SQUARE_CIRCLE, circle, decode
from harness.pages.browser import missing
from harness.pages.page import Page, wait
from harness.pages.panel import enable, generate, small
from harness.server import WebUI
from PIL import Image

pytestmark = [pytest.mark.server("panel"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]

SHOTS = os.environ.get("DITAIL_SCREENSHOTS")
SIDE, MARGIN = 128, 12
"""Of the pictures, and of the contact sheet between them."""


def place(tab: str, name: str) -> str:
    return f"#script_{tab}_ditail_{name}"


def compare(page: Page, tab: str) -> None:
    page.click(place(tab, "compare"))
    wait(lambda: page.visible(f"{place(tab, 'comparison')} .ditail-stage"), "the pictures", 90)


def saved(page: Page, tab: str) -> list[Image.Image]:
    """The pictures of the contact sheet that a click saves."""
    wait(lambda: page.visible(place(tab, "save_sheet")), "the button", 20)
    page.click(place(tab, "save_sheet"))
    words = place(tab, "comparison_words")
    wait(lambda: "Saved: " in page.text(words), "the file's name", 30)
    sheet = Image.open(page.text(words).split("Saved: ")[1].strip()).convert("RGB")
    lefts = [MARGIN + index * (SIDE + MARGIN) for index in range(3)]
    return [sheet.crop((left, MARGIN, left + SIDE, MARGIN + SIDE)) for left in lefts]


def test_the_three_pictures_of_img2img(page: Page, webui: WebUI, picture: Path, tmp_path: Path):
    """The middle one is what the API makes with both ratios 0: the target from the same start, nothing injected."""
    enable(page, "img2img")
    small(page, "img2img")
    page.choose("#img2img_sampling", "DDIM")
    page.upload("#img2img_image", picture)
    page.choose(place("img2img", "source_checkpoint"), "beta.safetensors")
    infotext = generate(page, "img2img")
    seed = int(infotext.split("Seed: ")[1].split(",")[0])
    compare(page, "img2img")
    page.shoot("#script_img2img_ditail_enabled", Path(SHOTS or tmp_path) / "panel-compare.png")
    content, alone, result = saved(page, "img2img")
    strength = float(infotext.split("Denoising strength: ")[1].split(",")[0])
    request = {
        **SQUARE_CIRCLE,
        "negative_prompt": "",
        "steps": 5,
        "seed": seed,
        "cfg_scale": 7,
        "denoising_strength": strength,
        "sampler_name": "DDIM",
        "scheduler": "Automatic",
    }
    ditail = {"source_checkpoint": "beta.safetensors", "negative_scale": 1.5}
    whole = webui.img2img(ditail, **request)
    bare = webui.img2img({**ditail, "feature_ratio": 0.0, "attention_ratio": 0.0}, **request)
    assert result.tobytes() == decode(whole.body["images"][0]).convert("RGB").tobytes()
    assert alone.tobytes() == decode(bare.body["images"][0]).convert("RGB").tobytes()
    assert alone.tobytes() != result.tobytes()
    assert content.tobytes() == circle(128, 128).convert("RGB").resize((SIDE, SIDE)).tobytes()
    assert page.severe() == []


def test_of_generated_content_the_source_s_picture_is_the_first(page: Page, webui: WebUI):
    enable(page, "txt2img")
    small(page, "txt2img")
    page.choose("#txt2img_sampling", "DDIM")
    page.choose(place("txt2img", "source_checkpoint"), "beta.safetensors")
    infotext = generate(page, "txt2img")
    seed = int(infotext.split("Seed: ")[1].split(",")[0])
    compare(page, "txt2img")
    content, alone, _ = saved(page, "txt2img")
    request = {"steps": 5, "seed": seed, "cfg_scale": 7, "negative_prompt": "", "sampler_name": "DDIM"}
    request |= {"scheduler": "Automatic", **SQUARE}
    shown = webui.txt2img({"source_checkpoint": "beta.safetensors", "show_content": True}, **request)
    plain = webui.txt2img(**request)
    assert content.tobytes() == decode(shown.body["images"][1]).convert("RGB").tobytes()
    assert alone.tobytes() == decode(plain.body["images"][0]).convert("RGB").tobytes()


def test_the_slider_moves_and_the_other_picture_can_be_chosen(page: Page, picture: Path):
    enable(page, "img2img")
    small(page, "img2img")
    page.upload("#img2img_image", picture)
    generate(page, "img2img")
    compare(page, "img2img")
    stage = f"{place('img2img', 'comparison')} .ditail-stage"
    style = "return getComputedStyle(gradioApp().querySelector(arguments[0]))[arguments[1]]"
    assert "50%" in page.run(style, f"{stage} .ditail-of-result", "clipPath")
    page.set(f"{stage} input[type=range]", 20)
    wait(lambda: "20%" in page.run(style, f"{stage} .ditail-of-result", "clipPath"), "the slider")
    assert page.run(style, f"{stage} .ditail-of-alone", "visibility") == "visible"
    page.click(f"{place('img2img', 'comparison')} label")
    wait(lambda: page.run(style, f"{stage} .ditail-of-alone", "visibility") == "hidden", "the content")
    drawn = "return [...gradioApp().querySelectorAll(arguments[0])].every((e) => e.complete && e.naturalWidth === 128)"
    assert page.run(drawn, f"{stage} img")


def test_without_a_picture_of_ditail_s_it_says_so(page: Page):
    enable(page, "txt2img")
    page.click(place("txt2img", "compare"))
    words = place("txt2img", "comparison_words")
    wait(lambda: "generate first" in page.text(words), "the sentence", 30)
    assert not page.visible(place("txt2img", "save_sheet"))
