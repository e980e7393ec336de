"""A picture's parameters, given back to the host, ask for the same picture."""

from __future__ import annotations

import re

import pytest
from harness.client import circle, encode
from harness.server import WebUI

from ditail_ext.settings import TABLE

pytestmark = pytest.mark.server("held")

SETTINGS = {
    "source_checkpoint": "beta.safetensors",
    "positive_scale": 2.5,
    "negative_scale": 0.25,
    "feature_ratio": 1.0,
    "attention_ratio": 0.3,
    "inversion_prompt": 'a "red" disc, (grey:1.2): <b>',
    "inversion_negative_prompt": "64x64",
    "inversion_rule": "warm start",
    "refinements": 1,
    "layer_profile": "strong",
    "feature_start": 0.05,
    "attention_start": 0.1,
    "feature_weight": 0.9,
    "attention_weight": 0.8,
    "region_blur": 7,
}


def of_ditail(infotext: str) -> list[str]:
    """The infotext's part about Ditail."""
    return re.findall(r'Ditail[^:]*: (?:"(?:\\.|[^\\"])+"|[^,]*)', infotext)


@pytest.mark.parametrize("values", [{}, SETTINGS], ids=["defaults", "all changed"])
def test_the_infotext_asks_for_the_same_again(webui: WebUI, values: dict[str, object]):
    picture = {"picture": encode(circle())}
    first = webui.txt2img({**values, **picture})
    assert first.status == 200, first.body
    # The picture is not in the infotext; all else is. A dict by name is laid over what the infotext says.
    again = webui.txt2img(picture, infotext=first.infotext)
    assert again.status == 200, again.body
    assert again.infotext == first.infotext
    assert again.pixels == first.pixels


def test_the_infotext_alone_enables_ditail_in_img2img(webui: WebUI):
    first = webui.img2img(SETTINGS)
    again = webui.img2img(infotext=first.infotext)
    assert (first.status, again.status) == (200, 200), (first.body, again.body)
    assert of_ditail(again.infotext) == of_ditail(first.infotext)
    keys = {part.split(": ")[0] for part in of_ditail(first.infotext)}
    assert keys >= {TABLE[name].infotext for name in SETTINGS}


def test_the_source_is_named_with_its_hash(webui: WebUI):
    assert re.search(r"Ditail source: beta\.safetensors \[[0-9a-f]{10}\]", webui.img2img(SETTINGS).infotext)


def test_an_ordinary_infotext_enables_nothing(webui: WebUI):
    ordinary = webui.txt2img()
    again = webui.txt2img(infotext=ordinary.infotext)
    assert again.pixels == ordinary.pixels
    assert of_ditail(again.infotext) == []


def test_a_checkpoint_that_is_gone_is_refused(webui: WebUI):
    text = webui.img2img(SETTINGS).infotext
    gone = re.sub(r"beta\.safetensors \[\w+\]", "gone.safetensors [0123456789]", text)
    answer = webui.img2img(infotext=gone)
    assert answer.status == 422
    assert "gone.safetensors" in answer.sentence


@pytest.mark.parametrize(("key", "value"), [("positive scale", "much"), ("feature ratio", "7"), ("layers", "all")])
def test_a_damaged_infotext_makes_no_picture(webui: WebUI, key: str, value: str):
    text = re.sub(rf"Ditail {key}: [^,]*", f"Ditail {key}: {value}", webui.img2img(SETTINGS).infotext)
    answer = webui.img2img(infotext=text)
    assert answer.status == 422, answer.body
    assert answer.sentence.startswith("Ditail: ")
    assert value in answer.sentence


def test_the_infotext_does_not_depend_on_the_cache(webui: WebUI):
    webui.post("/ditail/v1/cache/clear")
    assert webui.img2img(SETTINGS).infotext == webui.img2img(SETTINGS).infotext
