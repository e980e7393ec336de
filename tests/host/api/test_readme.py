"""The requests of README.md and docs/, run as they stand there, README's with a photo of 5 MB."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness.client import decode, left_half
from harness.installed import REPOSITORY
from harness.models.checkpoints import LORA
from harness.server import WebUI
from PIL import Image

pytestmark = pytest.mark.server("others")

README = (REPOSITORY / "README.md").read_text("utf-8")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (1300, 1300, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    assert (tmp_path / "photo.png").stat().st_size > 5e6
    return tmp_path


@pytest.fixture
def named(webui: WebUI) -> Iterator[WebUI]:
    """With checkpoints of the names that README.md uses."""
    links = [webui.checkpoints / f"{name}.safetensors" for name in ("realistic", "watercolour")]
    for link, kind in zip(links, ("beta", "gamma"), strict=True):
        link.symlink_to((webui.checkpoints / f"{kind}.safetensors").resolve())
        link.with_suffix(".yaml").symlink_to((webui.checkpoints / f"{kind}.yaml").resolve())
    webui.post("/sdapi/v1/refresh-checkpoints")
    yield webui
    for link in links:
        link.unlink()
        link.with_suffix(".yaml").unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


def block(contains: str, webui: WebUI) -> str:
    """The one block of code that contains this, for the port that the tests use."""
    (found,) = [text for text in re.findall(r"```\w*\n(.*?)```", README, re.DOTALL) if contains in text]
    return found.replace("http://127.0.0.1:7860", webui.url)


SIDES = pytest.mark.parametrize("side", [128, pytest.param(512, marks=pytest.mark.slow)])
"""Of the picture, in pixels. 512 is the WebUI's own, for README.md names none; it takes half a minute."""


def of_side(side: int, request: str) -> str:
    """README.md's request as it stands, or with another size."""
    place = '"denoising_strength": 1,'
    assert request.count(place) == 1
    return request if side == 512 else request.replace(place, f'{place} "width": {side}, "height": {side},')


@SIDES
def test_the_request_of_the_command_line(named: WebUI, photo: Path, side: int):
    request = of_side(side, block("curl ", named))
    subprocess.run(["bash", "-euc", request], cwd=photo, check=True, env=dict(os.environ), timeout=300)
    answer = json.loads((photo / "answer.json").read_text("utf-8"))
    assert "images" in answer, answer
    assert decode(answer["images"][0]).size == (side, side)
    infotext = json.loads(answer["info"])["infotexts"][0]
    assert "Model: watercolour" in infotext
    assert "Ditail source: realistic.safetensors" in infotext
    assert "Ditail feature ratio: 0.5" in infotext  # the preset's


@SIDES
def test_the_request_in_python(named: WebUI, photo: Path, side: int):
    (photo / "request.py").write_text(of_side(side, block("urllib.request", named)), encoding="utf-8")
    subprocess.run([sys.executable, "request.py"], cwd=photo, check=True, timeout=300)
    assert "Ditail source: realistic.safetensors" in Image.open(photo / "lighthouse.png").info["parameters"]


def fragment(begins: str) -> dict[str, Any]:
    """A part of a request that stands in docs/webui.md, as JSON."""
    text = re.sub(r"\s+", " ", (REPOSITORY / "docs" / "webui.md").read_text("utf-8"))
    (found,) = re.findall(rf"`+ ?({re.escape(begins)}.*?) ?`+", text)
    return json.loads(f"{{{found}}}")


def test_the_request_with_a_mask(named: WebUI):
    request = fragment('"alwayson_scripts": {"Ditail"')
    (ditail,) = request["alwayson_scripts"]["Ditail"]["args"]
    assert ditail["mask"].endswith("...")  # shortened on the page, a whole one here
    answer = named.img2img({**ditail, "mask": left_half()}, steps=3)
    assert answer.status == 200, answer.body
    assert "Ditail region: region mask" in answer.infotext


def test_the_request_of_a_grid(named: WebUI):
    """With checkpoints and a LoRA that are here in the place of the page's."""
    request = fragment('"script_name": "ditail grid"')
    (first, second), (lora,) = request["script_args"]
    weight = lora.partition(":")[2]
    for args in (
        [["beta.safetensors"], [f"{LORA}:{weight}"]],
        [{"checkpoints": ["beta.safetensors"], "loras": [LORA]}],
    ):
        answer = named.img2img(script_name=request["script_name"], script_args=args, steps=4)
        assert answer.status == 200, answer.body
        assert len(answer.body["images"]) == 5  # the sheet and its cells
    assert first != second
