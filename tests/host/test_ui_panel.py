"""The panel in a browser: seen, filled in, kept, used."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.browser import Page, browser, missing, wait
from harness.client import circle
from harness.server import WebUI
from PIL import Image

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

SHOTS = os.environ.get("DITAIL_SCREENSHOTS")
"""Folder for the pictures of the panel; the documentation's are made with it."""

CONFIGURED = {"customscript/ditail.py/img2img/Negative scale (β)/value": 1.5}
"""What a user has saved as a default of their own."""


@pytest.fixture(scope="module")
def server(start_webui: Callable[..., WebUI]) -> WebUI:
    return start_webui(ui_config=CONFIGURED)


@pytest.fixture(scope="module")
def window(server: WebUI) -> Iterator[Page]:
    with browser() as driver:
        yield Page(driver, server.url)


@pytest.fixture
def page(window: Page) -> Page:
    """The page, loaded anew."""
    window.open()
    return window


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "circle.png"
    circle().save(file)
    return file


def control(tab: str, name: str, kind: str = "input") -> str:
    return f"#script_{tab}_ditail_{name} {kind}"


def number(tab: str, name: str) -> str:
    return control(tab, name, "input[type=number]")


def enable(page: Page, tab: str) -> None:
    page.tab(tab)
    page.click(control(tab, "enabled", ".label-wrap"))
    wait(lambda: page.visible(f"#script_{tab}_ditail_source_checkpoint"), "the panel to open")


def small(page: Page, tab: str) -> None:
    """A generation that takes a second."""
    for name, value in (("width", 128), ("height", 128), ("steps", 5)):
        page.set(f"#{tab}_{name} input[type=number]", value)
    page.set(f"#{tab}_prompt textarea", "a red circle")


def generate(page: Page, tab: str) -> str:
    """Click, wait for the picture, give its infotext."""
    pictures = f"return gradioApp().querySelectorAll('#{tab}_gallery img').length"
    page.generate(tab, lambda: page.run(pictures), "a picture")
    return wait(lambda: page.text(f"#html_info_{tab}"), "the infotext")


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_the_panel_shows(page: Page, tab: str, tmp_path: Path):
    enable(page, tab)
    page.click(control(tab, "advanced", ".label-wrap"))
    wait(lambda: page.visible(control(tab, "inversion_prompt", "textarea")), "the advanced part")
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


def test_a_generation_by_clicking_in_img2img(page: Page, picture: Path):
    enable(page, "img2img")
    small(page, "img2img")
    page.upload("#img2img_image", picture)
    page.choose("#script_img2img_ditail_source_checkpoint", "beta.safetensors")
    page.set(number("img2img", "positive_scale"), 2)
    infotext = generate(page, "img2img")
    assert "Ditail: True, Ditail source: beta.safetensors [" in infotext
    assert "Ditail positive scale: 2" in infotext
    assert "Ditail negative scale: 1.5" in infotext
    assert page.severe() == []


def test_a_generation_by_clicking_in_txt2img(page: Page, picture: Path):
    enable(page, "txt2img")
    small(page, "txt2img")
    page.upload("#script_txt2img_ditail_picture", picture)
    assert "Ditail: True, Ditail source: same as target" in generate(page, "txt2img")


def mask_file(folder: Path) -> Path:
    mask = Image.new("L", (128, 128))
    mask.paste(160, (0, 0, 64, 128))
    mask.save(folder / "mask.png")
    return folder / "mask.png"


def mask_of(infotext: str) -> str:
    assert "Ditail region: region mask" in infotext
    return infotext.split("Ditail mask: ")[1][:10]


def region(page: Page, tab: str) -> str:
    """Open the panel's part about regions; the mask's place."""
    page.click(control(tab, "where", ".label-wrap"))
    wait(lambda: page.visible(control(tab, "region", "input[value='region mask']")), "the part to open")
    page.click(control(tab, "region", "input[value='region mask']"))
    return f"#script_{tab}_ditail_mask"


def test_a_mask_by_clicking(page: Page, picture: Path, tmp_path: Path):
    """A grey picture is the mask as it is; where something is painted on a picture, that is."""
    enable(page, "img2img")
    small(page, "img2img")
    page.upload("#img2img_image", picture)
    place = region(page, "img2img")
    page.upload(place, mask_file(tmp_path))
    hashed = mask_of(generate(page, "img2img"))
    mask = Image.open(tmp_path / "mask.png")
    assert hashed == hashlib.sha256(repr(mask.size).encode() + mask.tobytes()).hexdigest()[:10]
    page.paint(place, 0.2, 0.2)
    page.shoot("#script_img2img_ditail_where", Path(SHOTS or tmp_path) / "region-img2img.png")
    page.click("#img2img_generate")
    painted = wait(lambda: hashed not in (text := page.text("#html_info_img2img")) and text, "another mask")
    assert len(mask_of(painted)) == 10
    assert page.severe() == []


def test_a_region_mask_that_is_not_there_is_asked_for(page: Page, picture: Path):
    enable(page, "txt2img")
    small(page, "txt2img")
    page.upload("#script_txt2img_ditail_picture", picture)
    region(page, "txt2img")
    page.click("#txt2img_generate")
    assert "there is no mask" in wait(lambda: page.text("#html_log_txt2img .error"), "the error")


def test_the_upscale_button_says_that_ditail_has_no_part(page: Page, picture: Path):
    enable(page, "txt2img")
    small(page, "txt2img")
    page.upload("#script_txt2img_ditail_picture", picture)
    generate(page, "txt2img")
    page.click("#txt2img_upscale")
    wait(lambda: "Ditail range" in page.text("#html_info_txt2img"), "the upscaled picture")
    assert "none, the picture is only upscaled" in page.text("#html_info_txt2img")
    assert "Ditail has no part in upscaling" in page.text("#html_log_txt2img")


def test_txt2img_without_a_picture_shows_what_the_source_generated(page: Page):
    enable(page, "txt2img")
    small(page, "txt2img")
    page.click(control("txt2img", "advanced", ".label-wrap"))
    page.click(control("txt2img", "show_content"))
    assert "Ditail content: generated by the source" in generate(page, "txt2img")
    pictures = "return gradioApp().querySelectorAll('#txt2img_gallery .thumbnail-item').length"
    wait(lambda: page.run(pictures) >= 2, "the content picture")


def test_a_refusal_is_shown(page: Page):
    enable(page, "txt2img")
    small(page, "txt2img")
    page.set("#txt2img_prompt textarea", "a red circle")
    page.set(control("txt2img", "inversion_prompt", "textarea"), "x <lora:nothing:1>")
    page.click("#txt2img_generate")
    assert "inversion_prompt" in wait(lambda: page.text("#html_log_txt2img .error"), "the error")


def test_two_windows_have_values_of_their_own(page: Page, server: WebUI, picture: Path):
    first = page.driver.current_window_handle
    enable(page, "txt2img")
    small(page, "txt2img")
    page.set(number("txt2img", "positive_scale"), 1)
    page.upload("#script_txt2img_ditail_picture", picture)
    page.driver.switch_to.new_window("tab")
    second = Page(page.driver, server.url)
    small(second, "txt2img")
    assert "Ditail" not in generate(second, "txt2img")
    second.driver.close()
    page.driver.switch_to.window(first)
    assert "Ditail positive scale: 1.0" in generate(page, "txt2img").replace("scale: 1,", "scale: 1.0,")


INFOTEXT = (
    "a disc\nNegative prompt: blue\nSteps: 5, Sampler: Euler, CFG scale: 4, Seed: 3, Size: 128x128, Ditail: True, "
    "Ditail source: beta.safetensors [{hash}], Ditail positive scale: 6.5, Ditail feature ratio: 0.25, "
    'Ditail inversion prompt: "a, b", Ditail refinements: 3, Ditail layers: strong'
)


def test_an_infotext_pastes_into_the_panel(page: Page, server: WebUI):
    models = server.get("/sdapi/v1/sd-models").body
    shorthash = next(model["hash"] for model in models if model["model_name"] == "beta") or "?"
    page.tab("img2img")
    page.set(number("img2img", "attention_ratio"), 0.9)
    page.set("#img2img_prompt textarea", INFOTEXT.format(hash=shorthash))
    page.click("#img2img_tools #paste")
    wait(lambda: page.value(number("img2img", "positive_scale")) == "6.5", "the panel to be filled in")
    assert page.visible("#script_img2img_ditail_source_checkpoint")
    assert page.value(control("img2img", "source_checkpoint")) == "beta.safetensors"
    assert page.value(number("img2img", "feature_ratio")) == "0.25"
    assert page.value(number("img2img", "attention_ratio")) == "0.5"  # not written: its default
    assert page.value(control("img2img", "inversion_prompt", "textarea")) == "a, b"
    assert page.value(number("img2img", "refinements")) == "3"
    assert page.checked(control("img2img", "layer_profile", "input[value=strong]"))


def test_the_list_is_refreshed(page: Page, server: WebUI):
    enable(page, "img2img")
    new = server.checkpoints / "new.safetensors"
    new.symlink_to((server.checkpoints / "delta.safetensors").resolve())
    try:
        page.click("#script_img2img_ditail_source_checkpoint_refresh")
        wait(lambda: "new.safetensors" in page.options("#script_img2img_ditail_source_checkpoint"), "the new file")
    finally:
        new.unlink()
        server.post("/sdapi/v1/refresh-checkpoints")


def test_the_cache_is_cleared_by_a_click(page: Page, server: WebUI, picture: Path):
    enable(page, "txt2img")
    small(page, "txt2img")
    page.upload("#script_txt2img_ditail_picture", picture)
    generate(page, "txt2img")
    assert server.get("/ditail/v1/cache").body["inversions"] > 0
    page.click("#script_txt2img_ditail_clear_cache")
    wait(lambda: server.get("/ditail/v1/cache").body["inversions"] == 0, "the cache to be empty")
    wait(lambda: "cleared" in page.text("#script_txt2img_ditail_advanced .ditail-help"), "the message")


def test_everything_is_there_after_reload_ui(start_webui: Callable[..., WebUI]):
    server = start_webui(ui_config=CONFIGURED, options={"ditail_cache_mb": 128})
    with browser() as driver:
        Page(driver, server.url).click("#settings_restart_gradio")
        wait(lambda: "Restarting UI" in server.log(), "the WebUI to begin")
    # Only now another browser: a request that comes while it starts makes the host fail.
    wait(lambda: server.starts == 2, "the page to be built again")
    with browser() as driver:
        page = Page(driver, server.url)
        assert page.value(number("img2img", "negative_scale")) == "1.5"
        enable(page, "img2img")
    assert server.get("/sdapi/v1/options").body["ditail_cache_mb"] == 128
    arguments: list[Any] = server.get("/ditail/v1/schema").body["arguments"]
    assert arguments[0]["name"] == "enabled"
    plots = [info for info in server.get("/sdapi/v1/script-info").body if info["name"] == "x/y/z plot"]
    assert all(info["args"][0]["choices"].count("[Ditail] Feature ratio") == 1 for info in plots)
    assert server.img2img({}).status == 200
