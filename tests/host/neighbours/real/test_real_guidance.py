"""The real extensions that change guidance, the UNet's insides, the VAE, or a finished picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness.beside import (
    AUTHORS,
    SOURCES,
    Case,
    ask,
    both_effects_and_nothing_else,
    recorded,
    script,
    settle,
    the_same_without_ditail,
    the_same_without_neighbours,
)
from harness.client import SQUARE_CIRCLE, circle, encode
from harness.probe import Probe
from harness.server import Setup, WebUI
from harness.servers import SETUPS
from harness.state import unchanged_host

pytestmark = pytest.mark.server("many")


def incantations(**changed: Any) -> dict[str, Any]:
    """All of its controls; SEG begins at 0, SCFG at 4, PAG at 12, T2I-Zero at 21."""
    values = [False, 11.0, 0, 150, False, 1.0, 0.8, 3.0, 0.0, 0, 150, 4, False, 0, 0, 150, False, "Constant", 0, 100]
    values += [False, False, False, 2, 0.1, 0.5, 0.0, "", 0.0, 25, 1, False, False, False, "BREAK", "-", 0.2, 10]
    for name, value in changed.items():
        values[int(name.removeprefix("at"))] = value
    return script("Incantations", *values)


SQUARE = {"init_images": [encode(circle(256, 256))], "width": 256, "height": 256}
FREEU_STAGE = [1.4, 0.4, 0.0, 0.5, 0.0, 1.0]
CASES = {
    "FreeU": Case(script("FreeU", True, 0, 1, 0, "Version 1", *FREEU_STAGE * 3)),
    "PAG": Case(incantations(at12=True, at13=5.0)),
    "SEG": Case(incantations(at0=True)),
    "SCFG": Case(incantations(at4=True)),
    "Dynamic Thresholding": Case(
        script(
            "Dynamic Thresholding (CFG Scale Fix)", True, 3.0, 90.0, *["Constant", 0] * 2, 4.0, True, "MEAN", "AD", 1
        ),
        {"sampler_name": "Euler", "cfg_scale": 12},
    ),
    "Neutral Prompt": Case(
        {"prompt": "a red circle AND_PERP a blue square :1.0"}, {"prompt": "a red circle AND a blue square :1.0"}
    ),
    "Tiled VAE": Case(script("Tiled VAE", True, 96, 16, True, True, True, False), SQUARE, own_encoding=True),
    "ADetailer": Case(script("ADetailer", True, False, {"ad_model": "mediapipe_face_full"})),
}


@pytest.fixture(scope="module")
def without_ditail(model_files: Path, webui: WebUI) -> Iterator[WebUI]:
    """A WebUI with the same neighbours and no Ditail."""
    here = SETUPS["many"]
    other = WebUI(model_files, Setup(real=here.real, flags=here.flags, folder=""))
    other.with_alpha()  # the first picture of all
    yield other
    other.stop()


@pytest.fixture(scope="module")
def without_neighbours(model_files: Path, webui: WebUI) -> Iterator[WebUI]:
    """A WebUI with Ditail and none of them."""
    other = WebUI(model_files, Setup())
    other.with_alpha()
    yield other
    other.stop()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", CASES)
def test_both_effects_and_nothing_else(webui: WebUI, probe: Probe, name: str, source: str):
    both_effects_and_nothing_else(webui, CASES[name], SOURCES[source])


@pytest.mark.parametrize("name", ["FreeU", "PAG"])
def test_what_is_kept_serves_with_and_without_it(webui: WebUI, probe: Probe, name: str):
    asked, ditail = CASES[name].asked, SOURCES["beta"]
    settle(webui, CASES[name])
    fresh, alone = ask(webui, ditail, asked), ask(webui, ditail)
    for expected, parts in ((fresh, asked), (alone, {})):
        probe.reset()
        assert webui.img2img(ditail, **parts).pixels == expected.pixels
        records = probe.records()
        assert recorded(records) == 0
        assert all(call.sampling for call in records.calls)


@pytest.mark.parametrize("name", [*CASES, "the authors' Ditail"])
def test_with_ditail_off(webui: WebUI, without_ditail: WebUI, name: str):
    the_same_without_ditail(webui, without_ditail, CASES.get(name, AUTHORS))


def test_with_all_of_them_off(webui: WebUI, without_neighbours: WebUI):
    the_same_without_neighbours(webui, without_neighbours)


def test_adetailer_mends_its_box_of_each_of_three_batches(webui: WebUI, probe: Probe):
    """Around the box every picture is Ditail's, bit for bit."""
    ditail, count = {**SOURCES["beta"], "feature_weight": 0.9}, {**SQUARE_CIRCLE, "n_iter": 3}
    webui.post("/sdapi/v1/options", {"ditail_features_mb": 0})
    try:
        probe.reset()
        alone, before = ask(webui, ditail, count), probe.records()
        probe.reset()
        both, beside = ask(webui, ditail, count, CASES["ADetailer"].asked), probe.records()
    finally:
        webui.post("/sdapi/v1/options", {"ditail_features_mb": -1})
    assert both.status == 200, both.body
    assert recorded(beside) == recorded(before) > 0
    assert recorded(before) % 3 == 0
    for mine, theirs in zip(alone.pictures[-3:], both.pictures[-3:], strict=True):
        changed = np.any(np.asarray(mine) != np.asarray(theirs), axis=-1)
        assert changed[40:88, 40:88].mean() > 0.5
        changed[16:112, 16:112] = False  # the box, and its blurred edge
        assert not changed.any()


def test_demofusion_is_refused_by_name(webui: WebUI, probe: Probe):
    """It runs the sampler itself, without a word to anybody: that is seen when it has."""
    demofusion = script("DemoFusion", True, "DemoFusion", False, 32, 16, 4, 2.0, False, 10, 1, 1, 64, False, True)
    demofusion["alwayson_scripts"]["DemoFusion"]["args"] += [3, 1, 1, True, 0.85, 0.6, 4, False]
    alone = ask(webui, SOURCES["itself"])
    ask(webui, SOURCES["itself"], demofusion)
    ask(webui, None)  # it goes with the next request; the attributes that it leaves in the model are its own
    with unchanged_host(webui):
        answer = ask(webui, SOURCES["itself"], demofusion)
        assert answer.status == 422, answer.body
        assert "'multidiffusion-upscaler-for-automatic1111'" in answer.sentence
        assert ask(webui, SOURCES["itself"]).pixels == alone.pixels
