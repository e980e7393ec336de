"""The content pictures that a source generated, shown and saved beside the results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from harness.generated import BETA, ask, clear, plain
from harness.probe import Probe
from harness.server import WebUI
from harness.state import options
from PIL import Image

pytestmark = pytest.mark.server("held")

ROUNDING = 1
"""Levels of 255 by which pictures of batches may differ: sums of several rows depend on where the memory lies."""


def off(found: list[bytes], expected: list[bytes]) -> int:
    """The largest difference of two lists of pictures, in levels of 255."""
    one, other = (np.frombuffer(b"".join(pictures), np.uint8).astype(int) for pictures in (found, expected))
    assert one.shape == other.shape
    return int(abs(one - other).max())


def pixels(file: Path) -> bytes:
    return Image.open(file).convert("RGB").tobytes()


def seed_in(file: Path) -> str:
    """The seed in a saved picture's parameters."""
    return str(Image.open(file).info["parameters"]).split("Seed: ")[1].split(",")[0]


def test_the_content_picture_is_shown_and_saved(webui: WebUI, probe: Probe):
    size = {"batch_size": 2, "n_iter": 2}
    showing = {**BETA, "show_content": True}
    expected, _ = plain(webui, probe, "beta.safetensors", **size)
    hidden, _ = ask(webui, probe, BETA, **size)
    assert len(hidden.pictures) == 4
    saving = {"save_images": True, "override_settings": {"samples_save": True}}
    saved, records = ask(webui, probe, showing, **saving, **size)
    _, *pictures = saved.pixels  # after the grid
    assert len(pictures) == 8
    assert off(pictures[:4], hidden.pixels) <= ROUNDING
    assert off(pictures[4:], expected.pixels) <= ROUNDING
    assert saved.info["infotexts"][5:] == expected.info["infotexts"]
    assert "Ditail show content: True" in saved.infotext
    assert records.switches == []  # the source waits, and only decodes
    assert all(call.sampling for call in records.calls)
    again, records = ask(webui, probe, showing, **size)
    assert off(again.pixels, pictures) <= ROUNDING
    assert records.switches == []


@pytest.mark.parametrize("pattern", ["", "picture-[generation_number]", "[batch_number]-[seed]"])
def test_each_saved_content_picture_stands_beside_its_result(webui: WebUI, pattern: str, tmp_path: Path):
    naming = {"samples_filename_pattern": pattern, "save_images_add_number": not pattern}
    saving = {"outdir_txt2img_samples": str(tmp_path), "samples_save": True, "save_to_dirs": False, **naming}
    with options(webui, saving):
        answer = webui.txt2img({**BETA, "show_content": True}, save_images=True, batch_size=2, n_iter=2)
        assert answer.status == 200, answer.sentence
    contents = {file.name.removesuffix("-ditail-content.png"): file for file in tmp_path.glob("*-ditail-content.png")}
    results = {file.stem: file for file in tmp_path.glob("*.png") if file not in contents.values()}
    assert len(contents) == len(results) == 4
    assert sorted(pixels(file) for file in contents.values()) == sorted(answer.pixels[5:])
    for name in contents if pattern else ():
        assert seed_in(contents[name]) == seed_in(results[name])


def test_the_infotext_makes_the_picture_again(webui: WebUI, probe: Probe):
    first, _ = ask(webui, probe, {**BETA, "show_content": True}, sampler_name="Euler a")
    clear(webui)
    probe.reset()
    again = webui.post("/sdapi/v1/txt2img", {"infotext": first.infotext, "save_images": False})
    assert again.status == 200, again.sentence
    assert again.pixels == first.pixels
    assert again.infotext == first.infotext
