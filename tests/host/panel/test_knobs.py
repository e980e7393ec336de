"""The panel's controls in a browser: set back one by one, explained by pictures, only those that mean something."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.pages.browser import missing
from harness.pages.page import Page, wait
from harness.pages.panel import control, enable, number, says, small, unfold
from harness.server import WebUI

pytestmark = [pytest.mark.server("panel"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]

SOURCE = "#script_img2img_ditail_source_checkpoint"
STYLE = "return getComputedStyle(gradioApp().querySelector(arguments[0]), arguments[2] || null)[arguments[1]]"
CONTRAST = """
const channels = (text) => text.match(/[\\d.]+/g).map(Number);
const linear = (c) => c <= 0.04 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
const behind = (e) => {
    for (; e; e = e.parentElement) {
        const found = channels(getComputedStyle(e).backgroundColor);
        if (found.length < 4 || found[3] > 0.5) return found;
    }
    return [255, 255, 255];
};
const e = gradioApp().querySelector(arguments[0]);
const [one, other] = [light(channels(getComputedStyle(e).color)), light(behind(e))];
return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
"""
"""Of an element's text, as WCAG computes it."""


DEFAULTS = {"feature_ratio": "0.8", "attention_ratio": "0.5"}


def test_a_number_is_set_back_alone(img2img: Page):
    for name, other in (tuple(DEFAULTS), tuple(DEFAULTS)[::-1]):
        button = f"#script_img2img_ditail_{name}_reset"
        assert img2img.run(STYLE, button, "opacity") == "0"
        img2img.set(number("img2img", name), 0.3)
        img2img.set(number("img2img", other), 0.25)
        wait(lambda button=button: float(img2img.run(STYLE, button, "opacity")) > 0.5, "the button to show")
        set_back(img2img, name)
        assert img2img.value(number("img2img", other)) == "0.25"
        wait(lambda button=button: img2img.run(STYLE, button, "opacity") == "0", "the button to go")
        set_back(img2img, other)
        wait(lambda other=other: img2img.run(STYLE, f"#script_img2img_ditail_{other}_reset", "opacity") == "0", "it")


def set_back(img2img: Page, name: str) -> None:
    """By its button."""
    img2img.click(f"#script_img2img_ditail_{name}_reset")
    wait(lambda: img2img.value(number("img2img", name)) == DEFAULTS[name], "the default")


def test_lists_choices_and_texts_are_set_back(img2img: Page):
    unfold(img2img, "img2img", "inversion")
    unfold(img2img, "img2img", "advanced")
    img2img.choose(SOURCE, "beta.safetensors")
    img2img.set(control("img2img", "inversion_prompt", "textarea"), "a disc")
    img2img.click(control("img2img", "layer_profile", "input[value=full]"))
    for name in ("source_checkpoint", "inversion_prompt", "layer_profile"):
        img2img.click(f"#script_img2img_ditail_{name}_reset")
    wait(lambda: img2img.value(f"{SOURCE} input") == "same as target (to edit by prompt)", "the source")
    wait(lambda: img2img.value(control("img2img", "inversion_prompt", "textarea")) == "", "the prompt")
    wait(lambda: img2img.checked(control("img2img", "layer_profile", "input[value=default]")), "the layers")


def test_a_tooltip_has_pictures_that_are_loaded_when_it_is_looked_at(img2img: Page):
    help_of = "#script_img2img_ditail_feature_ratio [data-testid=block-info] + div"
    assert img2img.run(STYLE, help_of, "backgroundImage", "::after") == "none"
    img2img.run("gradioApp().querySelector(arguments[0]).focus()", number("img2img", "feature_ratio"))
    found = wait(lambda: (url := img2img.run(STYLE, help_of, "backgroundImage", "::after")) != "none" and url, "it")
    load = """const i = new Image(), done = arguments[1];
    i.onload = () => done(i.naturalWidth); i.onerror = () => done(0); i.src = arguments[0];"""
    width = img2img.driver.execute_async_script(load, found[5:-2])
    assert width > 200
    assert img2img.severe() == []


def test_regions_of_an_inpaint_mask_only_where_there_is_one(img2img: Page, picture: Path):
    unfold(img2img, "img2img", "region")
    choice = control("img2img", "region", "label:has(input[value='inpaint mask'])")
    wait(lambda: not img2img.visible(choice), "the choice to go")
    assert img2img.visible(control("img2img", "region", "label:has(input[value='region mask'])"))
    img2img.run("switch_to_img2img_tab(2)")
    wait(lambda: img2img.visible(choice), "the choice to come")
    img2img.click(control("img2img", "region", "input[value='inpaint mask']"))
    img2img.run("switch_to_img2img_tab(0)")
    says(img2img, "img2img", "There is no inpaint mask")
    assert img2img.visible(choice)  # what is chosen is shown


@pytest.fixture
def thousand(webui: WebUI) -> Iterator[int]:
    """A folder with a thousand checkpoints more."""
    real = (webui.checkpoints / "delta.safetensors").resolve()
    links = [webui.checkpoints / f"many-{index:04}.safetensors" for index in range(1000)]
    for link in links:
        link.symlink_to(real)
    webui.post("/sdapi/v1/refresh-checkpoints")
    yield len(links)
    for link in links:
        link.unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


def test_a_thousand_checkpoints(page: Page, thousand: int):
    """The list has them all and is searched by typing; the panel answers as quickly as ever."""
    page.tab("img2img")
    small(page, "img2img")
    enable(page, "img2img")
    page.click(f"{SOURCE}_refresh")
    wait(lambda: len(page.options(SOURCE)) > thousand, "the list", 60)
    page.choose(SOURCE, "many-0777.safetensors")
    says(page, "img2img", "inverted by many-0777")
    start = time.monotonic()
    page.set("#img2img_prompt textarea", "")
    says(page, "img2img", "The prompt is empty")
    assert time.monotonic() - start < 10
    assert page.severe() == []


def test_the_dark_theme_can_be_read(page: Page, webui: WebUI):
    """Sentence, warning, label, help and button have the contrast that WCAG asks of text, 4.5 to 1."""
    page.driver.get(f"{webui.url}/?__theme=dark")
    wait(page._ready, "the page")
    time.sleep(2)
    enable(page, "img2img")
    says(page, "img2img", "Source and target are the same")
    places = (
        "#script_img2img_ditail_sentence p",
        "#script_img2img_ditail_sentence .ditail-warning",
        f"{SOURCE} [data-testid=block-info]",
        "#script_img2img_ditail_suggest",
        "#script_img2img_ditail_feature_ratio [data-testid=block-info] + div",
    )
    found = {place: page.run(CONTRAST, place) for place in places}
    assert page.run("return document.body.classList.contains('dark')")
    assert {place: ratio for place, ratio in found.items() if ratio < 4.5} == {}
