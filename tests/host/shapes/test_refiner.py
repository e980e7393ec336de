"""A refiner takes over from the target: Ditail ends there."""

from __future__ import annotations

import pytest
from harness.probe import Probe
from harness.server import WebUI
from harness.state import unchanged_host

BETA = {"source_checkpoint": "beta.safetensors"}


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
def test_ditail_ends_at_the_refiner(webui: WebUI, probe: Probe, sampler: str):
    with unchanged_host(webui, but=["object"]):
        request = {"refiner_checkpoint": "delta.safetensors", "refiner_switch_at": 0.6, "sampler_name": sampler}
        answer = webui.img2img({**BETA, "feature_ratio": 1.0}, steps=10, denoising_strength=0.9, **request)
        assert answer.status == 200, answer.body
        assert "Ditail range: until the refiner" in answer.infotext
        calls = [call for call in probe.records().calls if call.sampling]
        assert {call.checkpoint for call in calls} == {"alpha.safetensors", "delta.safetensors"}
        assert all(call.output is not None for call in calls if call.checkpoint == "delta.safetensors")
        webui.txt2img()  # back to alpha
