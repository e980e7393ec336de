"""Targets with further inputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.families import inpainting_in
from harness.reference import relative
from harness.server import WebUI

pytestmark = pytest.mark.server("others")


@pytest.fixture(scope="module")
def inpainting(webui: WebUI, model_files: Path) -> Iterator[None]:
    with inpainting_in(webui, model_files / "checkpoints" / "alpha.safetensors", "inpainting"):
        yield


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
@pytest.mark.usefixtures("inpainting")
def test_inpainting_target(webui: WebUI, sampler: str):
    request = {"override_settings": {"sd_model_checkpoint": "inpainting.safetensors"}, "sampler_name": sampler}
    webui.probe.reset()
    answer = webui.img2img({"source_checkpoint": "beta.safetensors"}, **request)
    assert answer.status == 200, answer.sentence
    calls = webui.probe.records().calls
    recorded = next(call for call in calls if call.output is None)
    generated = next(call for call in calls if call.sampling and call.output is not None)
    assert recorded.x.shape[1] == generated.x.shape[1] == 9
    assert relative(recorded.x[0], generated.x[0]) < 1e-5
    refused = webui.img2img({"source_checkpoint": "inpainting.safetensors"})
    assert (refused.status, "inpainting" in refused.sentence) == (422, True)
