"""Other scripts of the WebUI around Ditail: those that use one request for several generations, or blend masks."""

from __future__ import annotations

from typing import Any

import pytest
from harness.client import SQUARE, circle, encode, left_half
from harness.plot import plot
from harness.probe import Probe
from harness.reference import relative
from harness.server import WebUI
from harness.state import options

pytestmark = pytest.mark.server("others")

BETA = {"source_checkpoint": "beta.safetensors"}


def rows_recorded(probe: Probe) -> int:
    return sum(call.output is None for call in probe.records().calls)


def run(webui: WebUI, probe: Probe, **request: Any) -> None:
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    answer = webui.img2img(BETA, **request)
    assert answer.status == 200, answer.sentence


def test_loopback(webui: WebUI, probe: Probe):
    """Each round's picture is inverted anew, by a source that is loaded once."""
    run(webui, probe, script_name="Loopback", script_args=[2, 0.75, "Linear", "None"])
    records = probe.records()
    assert len(records.samples) == 2
    assert records.loads == ["beta.safetensors"]
    assert rows_recorded(probe) == 4


def test_sd_upscale(webui: WebUI, probe: Probe):
    """Each tile is a picture of its own."""
    run(webui, probe, script_name="SD upscale", script_args=["", 32, 0, 1.0], init_images=[encode(circle(200, 200))])
    records = probe.records()
    assert len(records.samples) > 1
    assert rows_recorded(probe) == 2 * len(records.samples)


def test_soft_inpainting(webui: WebUI, probe: Probe):
    soft = {"soft inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}}
    for sampler in ("DDIM", "Euler"):
        run(
            webui, probe, alwayson_scripts=soft, mask=left_half(), inpaint_full_res=False, inpainting_fill=1,
            sampler_name=sampler,
        )  # fmt: skip
        assert rows_recorded(probe) > 0


@pytest.mark.parametrize(("axis", "values"), [("[Ditail] Attention ratio", "0, 1"), ("Steps", "6, 8")])
def test_grid(webui: WebUI, probe: Probe, axis: str, values: str):
    """A cell is a copy of the request."""
    assert plot(webui, (axis, values), ditail=BETA).status == 200
    assert len(probe.records().samples) == 2


@pytest.mark.parametrize("together", [True, False])
def test_images_with_prompts_of_their_own(webui: WebUI, probe: Probe, together: bool):
    """A batch of different prompts has several sources; each image is as alone."""
    with options(webui, {"batch_cond_uncond": together}):
        args = [False, False, "positive", "comma", 0]
        request = {"script_name": "Prompt matrix", "script_args": args, "batch_size": 2, **SQUARE}
        run(webui, probe, prompt="a red circle|big AND round|on grey", **request)
        matrix = probe.records()
        prompts = ["a red circle", "a red circle, big AND round", "a red circle, on grey"]
        images = [image for batch in matrix.samples for image in batch]
        assert len(images) == 4
        assert max(call.rows for call in matrix.calls if call.output is None) == 2
        for image, prompt in zip(images, prompts, strict=False):
            run(webui, probe, prompt=prompt, **SQUARE)
            assert relative(image, probe.records().samples[0][0]) < 1e-4
