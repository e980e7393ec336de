"""Recorded features kept between generations: no record passes, the same pictures, nothing stale."""

from __future__ import annotations

from typing import Any

import pytest
from harness.probe import Probe, Records
from harness.reference import relative
from harness.server import WebUI

pytestmark = pytest.mark.server("held")

BETA = {"source_checkpoint": "beta.safetensors"}
LORA = "a red circle <lora:tiny:1>"
LIMIT = "ditail_features_mb"


def generate(webui: WebUI, probe: Probe, ditail: dict[str, Any] = BETA, **request: Any) -> Records:
    probe.reset()
    answer = webui.img2img(ditail, **request)
    assert answer.status == 200, answer.body
    return probe.records()


def recorded(records: Records) -> int:
    return sum(call.output is None for call in records.calls)


SAMPLERS = {
    "DDIM": {"sampler_name": "DDIM"},
    "Euler": {"sampler_name": "Euler"},
    "Heun": {"sampler_name": "Heun"},
    "DPM++ 2M Karras": {"sampler_name": "DPM++ 2M", "scheduler": "Karras"},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_another_picture_from_the_same_source_and_target_records_nothing(webui: WebUI, probe: Probe, sampler: str):
    ditail = {**BETA, "inversion_prompt": "a red circle", "inversion_negative_prompt": "blue"}
    other = {"prompt": "a blue square", "seed": 9, "cfg_scale": 3}
    webui.post("/ditail/v1/cache/clear")
    first = generate(webui, probe, ditail, **SAMPLERS[sampler])
    second = generate(webui, probe, ditail, **other, **SAMPLERS[sampler])
    not_injected = {**ditail, "feature_ratio": 0.0, "attention_ratio": 0.0}
    plain = generate(webui, probe, not_injected, **other, **SAMPLERS[sampler])
    assert recorded(first) > 0
    assert (recorded(second), second.rows, second.loads) == (0, plain.rows, [])
    assert webui.get("/ditail/v1/cache").body["feature_bytes"] > 0

    assert webui.post("/ditail/v1/cache/clear").body["feature_bytes"] == 0
    fresh = generate(webui, probe, ditail, **other, **SAMPLERS[sampler])
    assert recorded(fresh) == recorded(first)
    assert relative(second.samples[0], fresh.samples[0]) < 1e-5
    assert relative(second.samples[0], plain.samples[0]) > 0.02


def test_batches_of_one_request_record_once(webui: WebUI, probe: Probe):
    webui.post("/ditail/v1/cache/clear")
    one = generate(webui, probe)
    webui.post("/ditail/v1/cache/clear")
    assert recorded(generate(webui, probe, n_iter=3, batch_size=2)) == recorded(one)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": LORA},
        {"override_settings": {"sd_model_checkpoint": "delta.safetensors"}},
        {"width": 192},
        {"tiling": True},
    ],
    ids=["LoRA", "target", "size", "tiling"],
)
def test_what_the_features_depend_on_records_anew(webui: WebUI, probe: Probe, change: dict[str, Any]):
    ditail = {**BETA, "inversion_prompt": "a red circle"}
    webui.post("/ditail/v1/cache/clear")
    before = generate(webui, probe, ditail)
    changed = generate(webui, probe, ditail, **change)
    assert recorded(changed) == recorded(before) > 0
    webui.post("/ditail/v1/cache/clear")
    fresh = generate(webui, probe, ditail, **change)
    assert relative(changed.samples[0], fresh.samples[0]) < 1e-5


@pytest.mark.parametrize("limit", [0, 1])
def test_the_limit_holds(webui: WebUI, probe: Probe, limit: int):
    before = webui.get("/sdapi/v1/options").body[LIMIT]
    webui.post("/ditail/v1/cache/clear")
    try:
        assert webui.post("/sdapi/v1/options", {LIMIT: limit}).status == 200
        first, second = (generate(webui, probe, width=384, height=384) for _ in range(2))
        assert webui.get("/ditail/v1/cache").body["feature_bytes"] <= limit * 2**20
    finally:
        webui.post("/sdapi/v1/options", {LIMIT: before})
    assert relative(second.samples[0], first.samples[0]) < 1e-5
    assert recorded(second) > 0


def test_an_inversion_on_disk_outlives_the_memory(webui: WebUI, probe: Probe):
    before = {name: webui.get("/sdapi/v1/options").body[name] for name in ("ditail_cache_mb", "ditail_disk_cache_mb")}
    webui.post("/ditail/v1/cache/clear")
    try:
        webui.post("/sdapi/v1/options", {"ditail_cache_mb": 0, "ditail_disk_cache_mb": 64})
        first, second = generate(webui, probe), generate(webui, probe)
        assert webui.get("/ditail/v1/cache").body["inversions"] == 0
        assert (len(first.loads), second.loads) == (1, [])
        assert relative(second.samples[0], first.samples[0]) < 1e-5
        webui.post("/ditail/v1/cache/clear")
        assert len(generate(webui, probe).loads) == 1
    finally:
        webui.post("/sdapi/v1/options", before)
        webui.post("/ditail/v1/cache/clear")
