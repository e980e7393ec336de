"""Drawing on the picture and transparent pictures: what is inverted is what the host would start from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness.client import SQUARE, Answer, circle, encode
from harness.pages.tab import IMG2IMG, INPAINT_SKETCH, SKETCH, Img2ImgTab, as_upload
from harness.probe import Probe
from harness.reference import relative
from harness.server import WebUI
from harness.state import options
from PIL import Image, ImageDraw, ImageFilter

pytestmark = pytest.mark.server("held")

BETA = {"source_checkpoint": "beta.safetensors"}
MASK_BLUR = 4
"""The tab's default."""


@pytest.fixture(scope="module")
def tab(webui: WebUI) -> Img2ImgTab:
    return Img2ImgTab(webui)


def drawn() -> Image.Image:
    """The red circle with a line drawn over it."""
    picture = circle(128, 128)
    ImageDraw.Draw(picture).line((16, 20, 110, 60), fill=(20, 40, 230), width=12)
    return picture


def inverted(probe: Probe) -> np.ndarray:
    """The encoded picture with which the last inversion began."""
    calls = probe.records().calls
    return next(call.x for call in calls if not call.sampling)


def ask(webui: WebUI, probe: Probe, picture: Image.Image, **request: Any) -> tuple[Answer, np.ndarray]:
    """One img2img request: its answer, and what was inverted for it."""
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    answer = webui.img2img(BETA, init_images=[encode(picture)], **{**SQUARE, **request})
    assert answer.status == 200, answer.body
    return answer, inverted(probe)


def test_a_sketch_is_inverted_with_the_drawing_on_it(webui: WebUI, probe: Probe, tab: Img2ImgTab):
    shown = tab.press(SKETCH, BETA, img2img_sketch=drawn())
    begun = inverted(probe)
    composed, expected = ask(webui, probe, drawn())
    _, undrawn = ask(webui, probe, circle(128, 128))
    assert shown.pixels == composed.pixels
    assert relative(begun, expected) == 0
    assert relative(begun, undrawn) > 0.01


@pytest.mark.parametrize("region", ["everywhere", "inpaint mask"])
def test_an_inpaint_sketch_is_inverted_with_the_drawing_and_masked_by_it(
    webui: WebUI, probe: Probe, tab: Img2ImgTab, region: str
):
    for picture in (circle(128, 128), drawn()):
        tab.change("inpaint_sketch", as_upload(picture))
    shown = tab.press(INPAINT_SKETCH, {**BETA, "region": region}, inpaint_sketch=drawn())
    begun = inverted(probe)
    # The host softens the drawing's edges before it lays it over the picture.
    mask = Image.fromarray(np.any(np.asarray(drawn()) != np.asarray(circle(128, 128)), axis=-1).astype(np.uint8) * 255)
    soft = ImageFilter.GaussianBlur(MASK_BLUR)
    composed = Image.composite(drawn().filter(soft), circle(128, 128), mask.filter(soft))
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    answer = webui.img2img(
        {**BETA, "region": region},
        init_images=[encode(composed)],
        mask=encode(mask),
        mask_blur=MASK_BLUR,
        inpainting_fill=1,
        inpaint_full_res=False,
        **SQUARE,
    )
    assert shown.pixels == answer.pixels, shown.log
    assert relative(begun, inverted(probe)) == 0
    kept = np.asarray(shown.pictures[0])[96:].astype(int)
    assert abs(kept - np.asarray(circle(128, 128))[96:].astype(int)).max() <= 1
    _, undrawn = ask(webui, probe, circle(128, 128))
    assert relative(begun, undrawn) > 0.01


BACKGROUND = "#20c060"


def opacity() -> Image.Image:
    """Opaque in the disc, half so in a corner."""
    mask = circle(128, 128, (255, 255, 255)).convert("L").point(lambda grey: 255 * (grey > 128))
    mask.paste(128, (0, 0, 32, 32))
    return mask


def transparent(mode: str) -> Image.Image:
    if mode == "P":
        picture = circle(128, 128).quantize(2)
        picture.info["transparency"] = picture.getpixel((0, 0))
        return picture
    picture = circle(128, 128).convert(mode.removesuffix("A"))
    picture.putalpha(opacity())
    return picture


def flat(picture: Image.Image, colour: str) -> Image.Image:
    """The picture on a background."""
    opaque = picture.convert("RGBA")
    below = Image.new("RGBA", opaque.size, colour)
    below.paste(opaque, mask=opaque)
    return below.convert("RGB")


def test_a_transparent_picture_is_inverted_on_the_chosen_background(webui: WebUI, probe: Probe, tab: Img2ImgTab):
    found = []
    for colour in ("#ffffff", BACKGROUND):
        with options(webui, {"img2img_background_color": colour}):
            webui.post("/ditail/v1/cache/clear")
            by_tab = tab.press(IMG2IMG, BETA, img2img_image=transparent("RGBA"))
            transparent_one, begun = ask(webui, probe, transparent("RGBA"))
            flat_one, expected = ask(webui, probe, flat(transparent("RGBA"), colour))
            assert by_tab.pixels == transparent_one.pixels == flat_one.pixels
            assert relative(begun, expected) == 0
            found.append(begun)
    assert relative(found[0], found[1]) > 0.01


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_content_picture_lies_on_the_chosen_background(webui: WebUI, probe: Probe, mode: str):
    with options(webui, {"img2img_background_color": BACKGROUND}):
        pictures = []
        for content in (transparent(mode), flat(transparent(mode), BACKGROUND), circle(128, 128)):
            answer = webui.txt2img({**BETA, "picture": encode(content)}, **SQUARE)
            assert answer.status == 200, answer.body
            pictures.append(answer.pixels)
    assert pictures[0] == pictures[1]
    assert pictures[0] != pictures[2]
