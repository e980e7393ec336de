"""What cannot be merged is refused before anything is loaded, and whatever fails leaves nothing behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness.mixes import ALPHA, BETA, DELTA
from harness.probe import Probe
from harness.server import WebUI

ALONE = {"aggregation": "alone", "aggregate_1": DELTA, "aggregation_ratio": 0.5}


@pytest.mark.parametrize(
    ("ditail", "request_", "sentence"),
    [
        ({"aggregation": "alone"}, {}, "there is no further checkpoint"),
        ({**ALONE, "aggregate_1": "nobody"}, {}, "Aggregate with (1): there is no checkpoint named 'nobody'"),
        ({**ALONE, "aggregate_2": BETA, "aggregate_2_weight": 0.7}, {}, "Weight (2): "),
        ({**ALONE, "aggregation_start": 0.5}, {}, "Aggregation ratio: merging would end at 0.5"),
        ({**ALONE, "aggregation_ratio": 0.05}, {}, "Aggregation ratio: no step of 6 lies"),
        ({**ALONE, "aggregate_1_weight": 1.5}, {}, "Weight (1)"),
        (ALONE, {"sampler_name": "Restart"}, "Restart goes back up to noise on its way"),
        (ALONE, {"sampler_name": "UniPC"}, "UniPC evaluates a guess"),
        (ALONE, {"sampler_name": "DPM adaptive"}, "DPM adaptive chooses its steps"),
        (ALONE, {"sampler_name": "DPM fast"}, "DPM fast makes steps of different orders"),
        (
            ALONE,
            {"sampler_name": "Euler", "refiner_checkpoint": BETA, "refiner_switch_at": 0.3},
            "Aggregation ratio: the refiner takes over at 0.3",
        ),
        ({**ALONE, "aggregate_1_prompt": "x <lora:tiny:abc>"}, {}, "has a strength that is no number"),
        ({**ALONE, "aggregate_1": "inpainting.safetensors"}, {}, "Aggregate with (1)"),
        ({**ALONE, "aggregate_1": "cut.safetensors"}, {}, "Aggregate with (1)"),
    ],
)
def test_refused_before_anything_is_loaded(
    webui: WebUI, probe: Probe, ditail: dict[str, Any], request_: dict[str, Any], sentence: str
):
    if ditail.get("aggregate_1") == "cut.safetensors":
        (webui.checkpoints / "cut.safetensors").write_bytes((webui.checkpoints / DELTA).read_bytes()[:5000])
        webui.post("/sdapi/v1/refresh-checkpoints")
    before = probe.state()
    probe.reset()
    answer = webui.txt2img(ditail, **request_)
    assert answer.status == 422, answer.body
    assert answer.sentence.startswith("Ditail: ")
    assert sentence in answer.sentence
    records = probe.records()
    assert (records.calls, records.loads) == ([], [])
    assert probe.state() == before


@pytest.mark.parametrize(
    ("kind", "at"),
    [
        ("RuntimeError", 1),
        ("OutOfMemoryError", 2),
        ("KeyError", 3),
        ("RuntimeError", 6),
        *(
            pytest.param(kind, at, marks=pytest.mark.slow)
            for kind in ("OutOfMemoryError", "KeyError")
            for at in (1, 6)
        ),
    ],
)
def test_an_exception_in_any_call_leaves_nothing(webui: WebUI, probe: Probe, kind: str, at: int):
    """Calls are the target's and the further checkpoint's by turns."""
    plain = webui.with_alpha().pixels
    before = probe.state()
    probe.reset(throw_at=at, throw=kind)
    answer = webui.txt2img(ALONE)
    assert answer.status >= 400
    probe.reset()
    assert probe.state() == before
    assert webui.with_alpha().pixels == plain


@pytest.mark.parametrize("kind", ["RuntimeError", "OutOfMemoryError", "KeyError"])
def test_a_load_that_fails_leaves_nothing(webui: WebUI, probe: Probe, kind: str):
    plain = webui.with_alpha().pixels
    webui.post("/ditail/v1/cache/clear")
    before = probe.state()
    probe.reset(throw_load=DELTA, throw=kind)
    answer = webui.txt2img(ALONE)
    if kind == "OutOfMemoryError":  # tried again with the target in main memory
        assert answer.status == 200, answer.body
    else:
        assert answer.status == 422, answer.body
        assert answer.sentence.startswith("Ditail: Aggregate with (1): 'delta.safetensors")
    probe.reset()
    assert probe.state() == before
    assert webui.with_alpha().pixels == plain


@pytest.mark.parametrize(
    ("stop", "at"),
    [
        ("interrupt", 1),
        ("skip", 2),
        ("stop_generating", 4),
        ("interrupt", 6),
        *(pytest.param("skip", at, marks=pytest.mark.slow) for at in (1, 4, 6)),
        *(pytest.param("interrupt", at, marks=pytest.mark.slow) for at in (2, 4)),
    ],
)
def test_stopped_at_any_call(webui: WebUI, probe: Probe, stop: str, at: int):
    plain = webui.with_alpha().pixels
    before = probe.state()
    probe.reset(stop_at=at, stop=stop)
    answer = webui.txt2img(ALONE, n_iter=2)
    assert answer.status == 200, answer.body
    probe.reset()
    assert probe.state() == before
    assert webui.with_alpha().pixels == plain


def test_stop_generating_while_a_checkpoint_loads_lets_the_picture_be_finished(webui: WebUI, probe: Probe):
    expected = webui.txt2img(ALONE)
    webui.post("/ditail/v1/cache/clear")
    probe.reset(stage="load", then="stop_generating")
    answer = webui.txt2img(ALONE)
    assert (answer.status, answer.pixels) == (200, expected.pixels)
    assert probe.records().loads == [DELTA]


@pytest.mark.parametrize(
    "ditail", [ALONE, {"source_checkpoint": BETA, "aggregate_1": DELTA, "aggregation_ratio": 0.5}]
)
@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
def test_a_way_around_the_denoiser_is_no_picture(webui: WebUI, probe: Probe, ditail: dict[str, Any], sampler: str):
    """Another extension whose sampler calls the denoiser's class, and not what Ditail has put on the object."""
    plain = webui.with_alpha().pixels
    before = probe.state()
    probe.reset(break_in="modules.sd_samplers_cfg_denoiser:CFGDenoiser.__call__", break_with="go around")
    answer = webui.img2img(ditail, sampler_name=sampler)
    assert probe.reached()
    assert answer.status == 422, answer.body
    assert "Another extension goes around" in answer.sentence
    assert probe.records().calls  # it ran, and was not refused beforehand
    probe.reset()
    assert probe.state() == before
    assert webui.with_alpha().pixels == plain


def test_loads(webui: WebUI, probe: Probe):
    """A further checkpoint waits in memory as a source does: no load for the next picture."""
    webui.with_alpha()
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    assert webui.txt2img(ALONE, n_iter=3).status == 200
    assert probe.records().loads == [DELTA]
    probe.reset()
    assert webui.txt2img({**ALONE, "aggregate_1_weight": 0.3}).status == 200
    assert probe.records().loads == []
    probe.reset()
    assert webui.img2img({"source_checkpoint": DELTA, "aggregate_1": DELTA, "aggregation_ratio": 0.7}).status == 200
    assert probe.records().loads == []


def test_tiling_is_everybody_s(webui: WebUI, probe: Probe):
    """On a host that holds one checkpoint: with more of them it tiles the one it loaded last, whoever samples."""
    tiled, request = {**ALONE, "aggregate_1": ALPHA}, {"tiling": True, "sampler_name": "Euler"}
    webui.with_alpha()
    answer, plain = webui.txt2img(tiled, **request), webui.txt2img(**request)
    found, wanted = (np.asarray(one.pictures[0], int) for one in (answer, plain))
    assert abs(found - wanted).max() <= 1
    assert webui.txt2img(sampler_name="Euler").pixels != plain.pixels


def test_what_it_leaves_out_is_said(webui: WebUI, probe: Probe):
    answer = webui.txt2img({**ALONE, "positive_scale": 2.0, "source_checkpoint": BETA, "aggregate_3_weight": 0.1})
    assert answer.status == 200, answer.body
    assert "Ditail aggregate 1: delta.safetensors [" in answer.infotext
    assert "Ditail aggregation: alone" in answer.infotext
    assert "Ditail source" not in answer.infotext
    assert "Ditail without effect: source_checkpoint and positive_scale" in answer.infotext
    assert ALPHA not in answer.infotext.split("Ditail", 1)[1]
    off = webui.img2img({"source_checkpoint": BETA, "aggregate_2_weight": 0.3})
    assert "Ditail without effect: aggregate_2_weight" in off.infotext
    assert "Ditail aggregat" not in off.infotext.split("Ditail without effect")[0]
