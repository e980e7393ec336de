"""The panel in a browser: a source suggested, taken from the picture, settings by presets, a region painted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.client import circle
from harness.pages.browser import missing
from harness.pages.page import Page, wait
from harness.pages.panel import control, enable, generate, number, panel_click, says, small, unfold
from harness.server import WebUI
from PIL import PngImagePlugin

pytestmark = [pytest.mark.server("panel"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]

SHOTS = os.environ.get("DITAIL_SCREENSHOTS")
SOURCE = "#script_img2img_ditail_source_checkpoint"
SUGGESTION = "#script_img2img_ditail_suggestion"
PRESET = "#script_img2img_ditail_preset"


def suggest(page: Page, what: str) -> str:
    page.click("#script_img2img_ditail_suggest")
    return wait(lambda: what in (text := page.text(SUGGESTION)) and text, f"'{what}' in the suggestion", 90)


def test_a_source_is_suggested_and_chosen(img2img: Page, picture: Path, webui: WebUI):
    """Of random checkpoints one errs least; which, does not matter here."""
    img2img.upload("#img2img_image", picture)
    said = suggest(img2img, "errs least")
    families = [model["title"] for model in webui.get("/sdapi/v1/sd-models").body]
    assert 2 <= said.count("errs") <= min(5, len(families))
    first = said.split(" errs least")[0].split()[-1]
    if "chosen" in said:
        chosen = img2img.value(f"{SOURCE} input")
        assert any(name in chosen for name in (first, *said.split(" know")[0].replace(",", " ").split()))
    assert generate(img2img, "img2img").count("Ditail: True") == 1  # the queue is free again, and the target is there
    assert img2img.severe() == []


def test_a_suggestion_is_quick_the_second_time(img2img: Page, picture: Path, webui: WebUI):
    img2img.upload("#img2img_image", picture)
    suggest(img2img, "errs least")
    loads = webui.log().count("Loading weights")
    img2img.set("#img2img_prompt textarea", "")
    suggest(img2img, "prompt is empty")
    img2img.set("#img2img_prompt textarea", "a red circle")
    suggest(img2img, "errs least")
    assert webui.log().count("Loading weights") == loads


@pytest.mark.parametrize(("prompt", "words"), [("", "prompt is empty"), ("a disc", "There is no picture")])
def test_a_suggestion_needs_a_picture_and_a_prompt(img2img: Page, picture: Path, prompt: str, words: str):
    if not prompt:
        img2img.upload("#img2img_image", picture)
    img2img.set("#img2img_prompt textarea", prompt)
    suggest(img2img, words)


@pytest.fixture
def made_by_beta(webui: WebUI, tmp_path: Path) -> Path:
    models = webui.get("/sdapi/v1/sd-models").body
    hashed = next(model["hash"] for model in models if model["model_name"] == "beta") or "?"
    return with_text(
        tmp_path / "made.png", f"a blue disc\nNegative prompt: red\nSteps: 5, Model hash: {hashed}, Model: beta"
    )


def with_text(file: Path, text: str) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", f"{text}, Sampler: Euler, Seed: 1, Size: 128x128")
    circle(128, 128).save(file, pnginfo=info)
    return file


ORIGIN = "#script_img2img_ditail_origin"
USE = "#script_img2img_ditail_use_origin"


def test_a_picture_names_its_source_and_prompt(img2img: Page, made_by_beta: Path):
    img2img.set("#img2img_prompt textarea", "")
    img2img.upload("#img2img_image", made_by_beta)
    wait(lambda: "made by beta" in img2img.text(ORIGIN), "the offer")
    img2img.click(USE)
    wait(lambda: img2img.value(f"{SOURCE} input") == "beta.safetensors", "the source")
    assert img2img.value("#img2img_prompt textarea") == "a blue disc"
    assert img2img.value("#img2img_neg_prompt textarea") == "red"


def test_a_prompt_of_ones_own_stays_and_the_picture_s_is_the_inversion_s(img2img: Page, made_by_beta: Path):
    img2img.upload("#img2img_image", made_by_beta)
    wait(lambda: img2img.visible(USE), "the offer")
    img2img.click(USE)
    inversion = control("img2img", "inversion_prompt", "textarea")
    wait(lambda: img2img.value(inversion) == "a blue disc", "the inversion's prompt")
    assert img2img.value("#img2img_prompt textarea") == "a red circle"


def test_a_checkpoint_that_is_not_here_is_named(img2img: Page, tmp_path: Path, picture: Path):
    img2img.upload(
        "#img2img_image", with_text(tmp_path / "x.png", "a\nSteps: 5, Model hash: ffffffffff, Model: faraway")
    )
    wait(lambda: "faraway, which is not installed" in img2img.text(ORIGIN), "the sentence")
    assert not img2img.visible(USE)


def test_a_preset_sets_its_settings_and_a_change_shows(img2img: Page):
    img2img.choose(PRESET, "generated content")
    wait(lambda: img2img.value(number("img2img", "feature_ratio")) == "0.6", "the ratio")
    assert img2img.checked(control("img2img", "layer_profile", "input[value=full]"))
    img2img.set(number("img2img", "feature_ratio"), 0.3)
    wait(lambda: img2img.value(f"{PRESET} input") == "as set below", "the list to say so")
    img2img.set(number("img2img", "feature_ratio"), 0.6)
    wait(lambda: img2img.value(f"{PRESET} input") == "generated content", "the list to say so")


def test_reset_sets_everything_back(img2img: Page):
    img2img.choose(SOURCE, "beta.safetensors")
    img2img.set(number("img2img", "refinements"), 3)
    img2img.set(control("img2img", "inversion_prompt", "textarea"), "x")
    img2img.click("#script_img2img_ditail_reset")
    wait(lambda: img2img.value(number("img2img", "refinements")) == "0", "the defaults")
    assert img2img.value(f"{SOURCE} input") == "same as target (to edit by prompt)"
    assert img2img.value(control("img2img", "inversion_prompt", "textarea")) == ""


@pytest.fixture
def presets_file(webui: WebUI) -> Iterator[Path]:
    file = webui.data / "ditail-presets.json"
    file.unlink(missing_ok=True)
    yield file
    file.unlink(missing_ok=True)


def test_a_preset_of_ones_own_is_saved_removed_and_taken_from_a_file(
    img2img: Page, presets_file: Path, webui: WebUI, tmp_path: Path
):
    message = "#script_img2img_ditail_preset_message"
    unfold(img2img, "img2img", "presets")
    img2img.choose(PRESET, "balanced")
    img2img.set(number("img2img", "attention_ratio"), 0.9)
    img2img.set("#script_img2img_ditail_preset_name textarea", "mine")
    img2img.click("#script_img2img_ditail_preset_save")
    wait(lambda: "Saved" in img2img.text(message), "the message")
    assert json.loads(presets_file.read_text("utf-8")) == {"ditail presets": {"mine": {"attention_ratio": 0.9}}}
    assert webui.get("/ditail/v1/schema").body["presets"]["mine"]["attention_ratio"] == 0.9
    img2img.choose(PRESET, "balanced")
    wait(lambda: img2img.value(number("img2img", "attention_ratio")) == "0.5", "the shipped one")
    img2img.choose(PRESET, "mine")
    wait(lambda: img2img.value(number("img2img", "attention_ratio")) == "0.9", "one's own")
    img2img.click("#script_img2img_ditail_preset_remove")
    wait(lambda: "Removed" in img2img.text(message), "the message")
    given = tmp_path / "given.json"
    given.write_text('{"ditail presets": {"theirs": {"refinements": 2}}}', encoding="utf-8")
    upload = img2img.driver.find_element("css selector", "#script_img2img_ditail_preset_file input[type=file]")
    upload.send_keys(str(given))
    wait(lambda: "Added: theirs" in img2img.text(message), "the message")


def test_a_preset_through_the_api(webui: WebUI, picture: Path):
    answer = webui.txt2img(ditail={"preset": "generated content", "attention_ratio": 0.2}, steps=2)
    assert answer.status == 200, answer.body
    assert "Ditail layers: full" in answer.infotext
    assert "Ditail attention ratio: 0.2" in answer.infotext
    refused = webui.txt2img(ditail={"preset": "cheese"}, steps=2)
    assert refused.status == 422
    assert "cheese" in str(refused.body)


def test_txt2img_has_no_inpaint_mask_to_choose_and_img2img_no_content_to_show(page: Page):
    values = "return [...gradioApp().querySelectorAll(arguments[0])].map((e) => e.value)"
    assert page.run(values, "#script_txt2img_ditail_region input") == ["everywhere", "region mask"]
    assert len(page.run(values, "#script_img2img_ditail_region input")) == 4
    enable(page, "txt2img")
    assert page.visible("#script_txt2img_ditail_show_content")
    enable(page, "img2img")
    assert not page.visible("#script_img2img_ditail_show_content")


def test_without_the_javascript_the_server_says_what_it_knows(page: Page, picture: Path):
    """As if ``javascript/`` were deleted: the panel opens, says, suggests and generates."""
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*javascript/ditail.js*"]})
    try:
        page.open()
        assert page.run("return window.ditailFacts === undefined")
        page.tab("img2img")
        small(page, "img2img")
        panel_click(page, "img2img", "input.input-accordion-checkbox")
        says(page, "img2img", "The picture → inverted by alpha → redrawn by alpha")
        page.upload("#img2img_image", picture)
        page.choose(SOURCE, "beta.safetensors")
        says(page, "img2img", "The picture → inverted by beta → redrawn by alpha")
        assert "beta → alpha" in page.text("#script_img2img_ditail_badge")
        assert "Ditail source: beta.safetensors" in generate(page, "img2img")
        suggest(page, "errs least")
        page.choose(PRESET, "more style")
        wait(lambda: page.value(number("img2img", "feature_ratio")) == "0.5", "the preset")
        page.click("#script_img2img_ditail_feature_ratio_reset")
        wait(lambda: page.value(number("img2img", "feature_ratio")) == "0.8", "the setting set back")
        page.click("#script_img2img_ditail_compare")
        stage = "#script_img2img_ditail_comparison .ditail-stage"
        wait(lambda: page.visible(stage), "the comparison", 90)
        page.set(f"{stage} input", 30)
        clip = f"return getComputedStyle(gradioApp().querySelector('{stage} .ditail-of-result')).clipPath"
        wait(lambda: "30%" in page.run(clip), "the slider")
    finally:
        page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
