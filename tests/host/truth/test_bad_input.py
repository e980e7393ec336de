"""docs/bad-input.md says of the WebUI what the WebUI says, word for word."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from harness.client import Client, circle, encode
from harness.probe import Probe
from harness.server import WebUI

DOCS = Path(__file__).parents[3] / "docs" / "bad-input.md"
BETA = {"source_checkpoint": "beta.safetensors"}
EPS = base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n").decode("ascii")

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a ratio above 1": ("img2img", {"feature_ratio": 1.5}, {}),
    "a scale that is not a number": ("img2img", {"positive_scale": "3"}, {}),
    "a text of any length": ("img2img", {"inversion_rule": "x" * 1000}, {}),
    "half a refinement": ("img2img", {"refinements": 1.5}, {}),
    "a misspelt argument": ("img2img", {"feature_ratoi": 0.5}, {}),
    "an argument's name that resembles none": ("img2img", {"zzz": 1}, {}),
    "half a character": ("img2img", {"inversion_prompt": "\ud800"}, {}),
    "nothing where a text is wanted": ("img2img", {"inversion_prompt": 7}, {}),
    "no such source": ("img2img", {"source_checkpoint": "nobody.safetensors"}, {}),
    "a source's path that is none": ("img2img", {"source_checkpoint": "../beta.safetensors"}, {}),
    "a name that two files have": ("img2img", {"source_checkpoint": "twin"}, {}),
    "no such VAE": ("img2img", {**BETA, "source_vae": "nobody.pt"}, {}),
    "no such mix": ("img2img", {**BETA, "mix_checkpoint": "nobody", "mix_weight": 0.5}, {}),
    "a content picture in img2img": ("img2img", {"picture": encode(circle())}, {}),
    "a content picture that is EPS": ("txt2img", {"picture": EPS}, {}),
    "a content picture that is a path": ("txt2img", {"picture": "/home/me/cat.png"}, {}),
    "a content picture that is a number": ("txt2img", {"picture": 7}, {}),
    "a picture asked for that is not there": ("txt2img", {"content": "picture"}, {}),
    "a mask that is no picture": ("img2img", {"mask": base64.b64encode(b"no picture").decode("ascii")}, {}),
    "a region without its mask": ("img2img", {"region": "region mask"}, {}),
    "a region without an inpaint mask": ("img2img", {"region": "inpaint mask"}, {}),
    "a network's strength with a comma": ("img2img", {**BETA, "inversion_prompt": "a <lora:tiny:0,5>"}, {}),
    "a network that is not there": ("img2img", {**BETA, "inversion_prompt": "a <lora:nobody:1>"}, {}),
    "no denoising": ("img2img", {}, {"denoising_strength": 0}),
    "too few steps for UniPC": ("img2img", {}, {"sampler_name": "UniPC", "steps": 2}),
}
"""By what is wrong: the tab, Ditail's arguments, the host's own."""


def said(client: Client, what: str) -> tuple[int, str]:
    tab, ditail, request = CASES[what]
    answer = getattr(client, tab)(ditail, **request)
    return answer.status, answer.sentence


@pytest.mark.parametrize("what", CASES)
def test_the_page_is_true(webui: WebUI, probe: Probe, what: str):
    before = webui.log().count("Traceback")
    status, sentence = said(webui, what)
    assert status == 422, sentence
    assert f"| {what} | {sentence} |" in DOCS.read_text("utf-8")
    assert webui.log().count("Traceback") == before
    assert not probe.records().source_ran or "lora" in sentence.lower()
