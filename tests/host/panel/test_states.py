"""The panel's states with checkpoints that have learnt something: what a person is shown on the way to a picture.

With ``$DITAIL_SCREENSHOTS`` set to a folder, the states are put side by side there, as docs/panel.md has them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.pages.browser import missing
from harness.pages.page import Page, wait
from harness.pages.panel import enable, generate, number, panel_click, says
from harness.server import WebUI
from harness.shipped import shipped
from harness.state import options
from PIL import Image, PngImagePlugin

from demo.styles import draw
from demo.train.unet import SIDE
from demo.world import caption, make_scene

pytestmark = [
    pytest.mark.server("others"),
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

SCENE = make_scene(20_000)
PANEL = "#script_img2img_ditail"
SHOTS = os.environ.get("DITAIL_SCREENSHOTS")
HEIGHT, GAP = 930, 30
"""Of the narrow panel's upper part, and between states, in pixels."""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A scene of the shaded checkpoint's, with what the WebUI would have written into it."""
    info = PngImagePlugin.PngInfo()
    settings = f"Steps: 20, Sampler: DDIM, CFG scale: 5, Seed: 1, Size: {SIDE}x{SIDE}"
    info.add_text("parameters", f"{caption(SCENE)}\n{settings}, Model: ditail-demo-shaded")
    Image.fromarray(draw(SCENE, "shaded", SIDE)).save(tmp_path / "scene.png", pnginfo=info)
    return tmp_path / "scene.png"


@pytest.fixture
def img2img(webui: WebUI, window: Page, picture: Path, tmp_path: Path) -> Iterator[Page]:
    """The tab with the picture, the ink checkpoint as its target and the panel open."""
    with shipped(webui, tmp_path / "files"), options(webui, {"sd_model_checkpoint": "ditail-demo-ink.safetensors"}):
        window.open()
        enable(window, "img2img")
        window.click(f"{PANEL}_source_checkpoint_refresh")  # the page was built before they came
        wait(lambda: "ditail-demo-ink.safetensors" in window.options(f"{PANEL}_source_checkpoint"), "the list")
        for name, value in (("width", SIDE), ("height", SIDE), ("steps", 20)):
            window.set(f"#img2img_{name} input[type=number]", value)
        window.upload("#img2img_image", picture)
        yield window
    webui.post("/sdapi/v1/options", {"sd_model_checkpoint": "alpha.safetensors"})
    webui.txt2img(steps=2)


class Sheet:
    """The states, in columns."""

    def __init__(self, page: Page, folder: Path) -> None:
        self._page, self._folder = page, folder
        self._columns: list[list[Image.Image]] = []

    def column(self) -> None:
        """Begin another one."""
        self._columns.append([])

    def add(self, selector: str, *, height: int | None = None) -> None:
        """What is to be seen of an element, or of its upper part."""
        file = self._folder / "state.png"
        self._page.shoot(selector, file)
        shot = Image.open(file).convert("RGB")
        self._columns[-1].append(shot.crop((0, 0, shot.width, min(shot.height, height or shot.height))))

    def save(self, file: Path) -> None:
        """The columns side by side on white."""
        width = sum(max(shot.width for shot in column) + GAP for column in self._columns)
        height = max(sum(shot.height + GAP for shot in column) for column in self._columns)
        sheet = Image.new("RGB", (width, height), "white")
        left = 0
        for column in self._columns:
            top = 0
            for shot in column:
                sheet.paste(shot, (left, top))
                top += shot.height + GAP
            left += max(shot.width for shot in column) + GAP
        sheet.save(file, optimize=True)


def asked(page: Page, button: str, answer: str, ready: Callable[[str], bool]) -> str:
    """Press a button; what the panel answers."""
    page.click(f"{PANEL}_{button}")
    return wait(lambda: ready(text := page.text(f"{PANEL}_{answer}")) and text, f"the answer to {button}", 120)


def test_from_an_offer_to_a_comparison(img2img: Page, tmp_path: Path):
    sheet = Sheet(img2img, tmp_path)
    for states in ((offered,), (suggested, compared), (previewed,), (narrow_and_dark,)):
        sheet.column()
        for state in states:
            state(img2img, sheet)
    sheet.save(Path(SHOTS or tmp_path) / "panel-states.png")
    assert img2img.severe() == []


def offered(page: Page, sheet: Sheet) -> None:
    """Closed, and opened with nothing chosen; then a tooltip."""
    says(page, "img2img", "Source and target are the same checkpoint")
    panel_click(page, "img2img", ".label-wrap")
    wait(lambda: not page.visible(f"{PANEL}_source_checkpoint"), "the panel to close")
    sheet.add(f"{PANEL}_enabled")
    enable(page, "img2img")
    wait(lambda: "made by ditail-demo-shaded" in page.text(f"{PANEL}_origin"), "the offer")
    sheet.add(f"{PANEL}_enabled", height=560)
    page.run("gradioApp().querySelector(arguments[0]).focus()", number("img2img", "feature_ratio"))
    time.sleep(1)  # the tooltip's pictures
    sheet.add(f"{PANEL}_enabled", height=420)
    page.run("document.activeElement.blur()")


def suggested(page: Page, sheet: Sheet) -> None:
    """The base, which has learnt every style, knows the picture as well as the checkpoint that has made it."""
    page.set("#img2img_prompt textarea", caption(SCENE))
    said = asked(page, "suggest", "suggestion", lambda text: "errs least" in text)
    assert said.split(" errs least")[0].split()[-1] in ("ditail-demo-shaded", "ditail-demo-base")
    if "shaded" not in page.value(f"{PANEL}_source_checkpoint input"):
        page.choose(f"{PANEL}_source_checkpoint", "ditail-demo-shaded.safetensors")
    says(page, "img2img", "inverted by ditail-demo-shaded")
    sheet.add(f"{PANEL}_enabled", height=460)


def previewed(page: Page, sheet: Sheet) -> None:
    error = asked(page, "preview", "preview_words", lambda text: "error" in text)
    assert float(error.split("error ")[1].split(",")[0]) < 0.2
    assert "the picture comes back" in error
    wait(lambda: page.run(f"return gradioApp().querySelector('{PANEL}_preview_sheet img')?.complete"), "the sheet")
    # asked in the middle of it the host holds the source; the page asks again once it has the words
    wait(lambda: "To be loaded" not in page.text(f"{PANEL}_sentence"), "the target to be there again", 20)
    sheet.add(f"{PANEL}_enabled", height=760)


def compared(page: Page, sheet: Sheet) -> None:
    assert "Ditail: True" in generate(page, "img2img")
    page.click(f"{PANEL}_compare")
    wait(lambda: page.visible(f"{PANEL}_comparison .ditail-stage"), "the comparison", 120)
    says(page, "img2img", "kept from before")
    sheet.add(f"{PANEL}_comparison")


def narrow_and_dark(page: Page, sheet: Sheet) -> None:
    page.driver.get(f"{page.url}/?__theme=dark")
    wait(page._ready, "the page")
    enable(page, "img2img")
    panel_click(page, "img2img", "input.input-accordion-checkbox")
    says(page, "img2img", "No picture yet")
    try:
        page.driver.set_window_size(400, 3200)
        time.sleep(1)
        sheet.add(f"{PANEL}_enabled", height=HEIGHT)
    finally:
        page.driver.set_window_size(1500, 3200)
