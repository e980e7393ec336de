"""Regions as they are asked for: infotext, and what is wrong with them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from harness.client import Answer, circle, encode
from harness.regions import BETA, half, inpaint, square
from harness.server import WebUI
from PIL import Image

pytestmark = pytest.mark.server("held")


@pytest.mark.parametrize("tab", ["img2img", "txt2img"])
def test_the_round_trip_of_a_mask(webui: WebUI, tab: str):
    """All but the mask itself is in the infotext; given again, it makes the same picture."""
    generate = functools.partial(getattr(webui, tab), **square(txt2img=tab == "txt2img"))
    pictures = {"mask": encode(half())} | ({"picture": encode(circle(128, 128))} if tab == "txt2img" else {})
    first: Answer = generate({**BETA, **pictures, "region_blur": 9, "feature_start": 0.2, "attention_weight": 0.5})
    assert first.status == 200, first.body
    assert "Ditail region: region mask, Ditail region blur: 9" in first.infotext
    for part in ("Ditail feature start: 0.2", "Ditail attention weight: 0.5", "Ditail mask: "):
        assert part in first.infotext
    assert "Ditail feature weight" not in first.infotext

    again = generate(pictures, infotext=first.infotext)
    assert again.status == 200, again.body
    assert again.infotext == first.infotext
    difference = np.asarray(again.pictures[0], int) - np.asarray(first.pictures[0], int)
    assert np.abs(difference).max() <= 1  # img2img's picture is encoded with random noise, which then cancels

    other = generate({**pictures, "mask": encode(half(bright=200))}, infotext=first.infotext)
    assert hash_of(other) != hash_of(first)
    without = generate({name: value for name, value in pictures.items() if name != "mask"}, infotext=first.infotext)
    assert without.status == 422
    assert "there is no mask" in without.sentence


def hash_of(answer: Answer) -> str:
    return answer.infotext.split("Ditail mask: ")[1].split(",")[0]


def test_the_inpaint_region_pastes_back(webui: WebUI):
    first = webui.img2img({**BETA, "region": "outside inpaint mask"}, **inpaint(half()), **square(txt2img=False))
    assert "Ditail region: outside inpaint mask" in first.infotext
    again = webui.img2img(infotext=first.infotext, **inpaint(half()), **square(txt2img=False))
    assert "Ditail region: outside inpaint mask" in again.infotext


def test_a_mask_without_part_is_said(webui: WebUI):
    answer = webui.img2img({**BETA, "mask": encode(half()), "region": "everywhere"})
    assert "Ditail mask: not used" in answer.infotext


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "other proportions": ({"mask": encode(half((128, 96)))}, "128x96, but the picture 128x128"),
    "black": ({"mask": encode(Image.new("L", (128, 128)))}, "Nothing would be injected"),
    "no picture": ({"mask": "?"}, "Region mask: is not valid base64"),
    "no mask": ({"region": "region mask"}, "there is no mask"),
    "no inpaint mask": ({"region": "inpaint mask"}, "no inpaint mask"),
}


@pytest.mark.parametrize("tab", ["img2img", "txt2img"])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_region_is_refused(webui: WebUI, tab: str, case: str):
    ditail, says = WRONG[case]
    picture = {"picture": encode(circle(128, 128))} if tab == "txt2img" else {}
    answer = getattr(webui, tab)({**BETA, **ditail, **picture}, **square(txt2img=tab == "txt2img"))
    assert answer.status == 422, answer.body
    assert says in answer.sentence
