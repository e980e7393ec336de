"""The panel in a browser: it opens, says what it will do, and what matters about it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.pages.browser import missing
from harness.pages.page import Page, wait
from harness.pages.panel import control, generate, number, panel_click, panel_key, says, small, ticked, unfold
from harness.server import WebUI
from harness.state import options

pytestmark = [pytest.mark.server("panel"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]

SHOTS = os.environ.get("DITAIL_SCREENSHOTS")
SOURCE = "#script_img2img_ditail_source_checkpoint"


@pytest.fixture
def img2img(page: Page) -> Page:
    """The tab, with a prompt."""
    page.tab("img2img")
    small(page, "img2img")
    return page


def test_a_tick_opens_it(img2img: Page):
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    wait(lambda: img2img.visible(SOURCE), "the panel to open")
    assert ticked(img2img, "img2img")


def test_a_key_opens_it(img2img: Page):
    panel_key(img2img, "img2img", " ")
    wait(lambda: img2img.visible(SOURCE), "the panel to open")
    assert ticked(img2img, "img2img")


def test_it_says_what_will_happen_and_changes_with_the_page(img2img: Page, picture: Path):
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    says(img2img, "img2img", "No picture yet")
    img2img.upload("#img2img_image", picture)
    said = says(img2img, "img2img", "This picture → inverted by alpha (5 steps) → redrawn by alpha")
    assert "Source and target are the same checkpoint" in said
    img2img.choose(SOURCE, "beta.safetensors")
    said = says(img2img, "img2img", "inverted by beta (5 steps) → redrawn by alpha")
    assert "same checkpoint" not in said
    img2img.set("#img2img_prompt textarea", "")
    says(img2img, "img2img", "The prompt is empty")
    img2img.set("#img2img_batch_size input[type=number]", 2)
    says(img2img, "img2img", "All 2 pictures will be the same")
    img2img.choose("#img2img_sampling", "Euler a")
    says(img2img, "img2img", "Euler a adds noise on the way")
    assert img2img.severe() == []


def test_the_closed_panel_has_a_badge_while_it_is_on(img2img: Page, tmp_path: Path):
    badge = "#script_img2img_ditail_badge"
    assert "→" not in img2img.text(badge)
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    img2img.choose(SOURCE, "beta.safetensors")
    wait(lambda: "beta → alpha" in img2img.text(badge), "the badge")
    panel_click(img2img, "img2img", ".label-wrap")
    wait(lambda: not img2img.visible(SOURCE), "the panel to close")
    assert ticked(img2img, "img2img")
    assert "beta → alpha" in img2img.text(badge)
    img2img.shoot("#script_img2img_ditail_enabled", Path(SHOTS or tmp_path) / "panel-closed.png")
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    wait(lambda: "→" not in img2img.text(badge), "the badge to go")


def test_what_would_be_refused_is_said_before(img2img: Page, webui: WebUI):
    with options(webui, {"token_merging_ratio": 0.5}):
        panel_click(img2img, "img2img", "input.input-accordion-checkbox")
        says(img2img, "img2img", "Token merging is on")


def test_loads_and_a_kept_inversion_are_said(img2img: Page, webui: WebUI, picture: Path):
    webui.post("/ditail/v1/cache/clear")
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    img2img.upload("#img2img_image", picture)
    img2img.choose(SOURCE, "gamma.safetensors")
    says(img2img, "img2img", "To be loaded first: gamma")
    generate(img2img, "img2img")
    said = says(img2img, "img2img", "inverted by gamma (5 steps, kept from before)")
    assert "To be loaded" not in said
    img2img.set(number("img2img", "positive_scale"), 2.5)
    assert "kept" not in says(img2img, "img2img", "inverted by gamma (5 steps) →")


def test_controls_without_effect_look_so(img2img: Page):
    opacity = "return getComputedStyle(gradioApp().querySelector(arguments[0])).opacity"
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    unfold(img2img, "img2img", "region")
    blur = "#script_img2img_ditail_region_blur"
    wait(lambda: float(img2img.run(opacity, blur)) < 0.6, "the blur to look inert")
    img2img.click(control("img2img", "region", "input[value='inpaint mask']"))
    wait(lambda: float(img2img.run(opacity, blur)) == 1.0, "the blur to look alive")


def test_the_strength_is_raised_once_and_given_back(img2img: Page):
    strength = "#img2img_denoising_strength input[type=number]"
    before = img2img.value(strength)
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    wait(lambda: img2img.value(strength) == "1", "the strength to be raised")
    says(img2img, "img2img", f"Denoising strength is 1 for the most style (it was {before})")
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    wait(lambda: img2img.value(strength) == before, "the strength to come back")
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    time.sleep(1)
    assert img2img.value(strength) == before


def test_a_strength_of_ones_own_stays(img2img: Page):
    strength = "#img2img_denoising_strength input[type=number]"
    img2img.set(strength, 0.6)
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    wait(lambda: img2img.visible(SOURCE), "the panel to open")
    time.sleep(1)
    assert img2img.value(strength) == "0.6"


def test_a_pasted_strength_stays(img2img: Page):
    strength = "#img2img_denoising_strength input[type=number]"
    text = "a disc\nSteps: 5, Sampler: Euler, CFG scale: 4, Size: 128x128, Denoising strength: 0.75, Ditail: True"
    img2img.set("#img2img_prompt textarea", text)
    img2img.click("#img2img_tools #paste")
    wait(lambda: img2img.visible(SOURCE), "the panel to open")
    time.sleep(1)
    assert img2img.value(strength) == "0.75"


@pytest.fixture
def long_name(webui: WebUI) -> Iterator[str]:
    name = f"{'a-very-long-name-' * 7}x.safetensors"
    link = webui.checkpoints / name
    link.symlink_to((webui.checkpoints / "delta.safetensors").resolve())
    webui.post("/sdapi/v1/refresh-checkpoints")
    yield name
    link.unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


def test_a_name_of_120_letters_breaks_nothing(img2img: Page, long_name: str, tmp_path: Path):
    """In a wide window and in a narrow one: nothing is wider than the panel."""
    assert len(long_name) > 120
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    img2img.click(f"{SOURCE}_refresh")
    time.sleep(1)
    img2img.choose(SOURCE, long_name)
    says(img2img, "img2img", "…")
    title = "return gradioApp().querySelector(arguments[0]).title"
    assert img2img.run(title, "#script_img2img_ditail_sentence b") == long_name
    wait(lambda: img2img.run(title, f"{SOURCE} input") == long_name, "its title")
    size = "const p = gradioApp().querySelector(arguments[0]); return [p.scrollWidth, p.clientWidth]"
    try:
        for width in (1500, 400):
            img2img.driver.set_window_size(width, 3200)
            time.sleep(1)
            inner, outer = img2img.run(size, "#script_img2img_ditail_enabled")
            assert inner <= outer + 1 <= width
            img2img.shoot("#script_img2img_ditail_enabled", Path(SHOTS or tmp_path) / f"panel-long-{width}.png")
    finally:
        img2img.driver.set_window_size(1500, 3200)


def test_helps_are_tooltips_that_screen_readers_have(img2img: Page):
    opacity = "return getComputedStyle(gradioApp().querySelector(arguments[0])).opacity"
    help_of = "#script_img2img_ditail_feature_ratio [data-testid=block-info] + div"
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    wait(lambda: img2img.visible(SOURCE), "the panel to open")
    assert img2img.run(opacity, help_of) == "0"
    assert "Share of the steps" in img2img.run("return gradioApp().querySelector(arguments[0]).textContent", help_of)
    img2img.run("gradioApp().querySelector(arguments[0]).focus()", number("img2img", "feature_ratio"))
    wait(lambda: img2img.run(opacity, help_of) == "1", "the tooltip")


def test_every_control_has_a_name(img2img: Page):
    """For a screen reader: each control that one can reach has a label, a title or a text."""
    nameless = """
    const panel = gradioApp().querySelector('#script_img2img_ditail_enabled');
    const named = (e) => e.labels?.length || e.ariaLabel || e.title || e.textContent.trim() || e.placeholder
        || e.closest('.block, .wrap')?.querySelector('[data-testid=block-info], [data-testid=block-label]');
    return [...panel.querySelectorAll('input, textarea, button')].filter((e) => e.offsetParent && !named(e))
        .map((e) => e.outerHTML.slice(0, 120));
    """
    panel_click(img2img, "img2img", "input.input-accordion-checkbox")
    for section in ("region", "inversion", "mix", "advanced"):
        unfold(img2img, "img2img", section)
    time.sleep(0.5)
    assert img2img.run(nameless) == []
