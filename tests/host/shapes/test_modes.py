"""Masks, hires fix, content picture, progress."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from harness.client import Answer, circle, encode, left_half
from harness.probe import Probe
from harness.reference import relative
from harness.server import WebUI
from harness.state import options

pytestmark = pytest.mark.server("held")

BETA = {"source_checkpoint": "beta.safetensors"}


@pytest.mark.parametrize("sampler", ["DDIM", "Euler", "UniPC"])
@pytest.mark.parametrize("full_resolution", [True, False])
@pytest.mark.parametrize("fill", [0, 1, 2, 3])
def test_inpainting(webui: WebUI, probe: Probe, sampler: str, full_resolution: bool, fill: int):
    request = {
        "mask": left_half(),
        "inpaint_full_res": full_resolution,
        "inpainting_fill": fill,
        "mask_blur": 0,
    }
    probe.reset()
    answer = webui.img2img(BETA, sampler_name=sampler, inpaint_full_res_padding=8, **request)
    assert answer.status == 200, answer.body
    records = probe.records()
    assert any(call.output is None for call in records.calls)
    kept = np.asarray(circle())[:, 96:].astype(int)
    assert abs(np.asarray(answer.pictures[0])[:, 96:].astype(int) - kept).max() <= 1


def test_timestep_samplers_keep_the_inverted_latent_under_the_mask(webui: WebUI, probe: Probe):
    """The host would put the clean latent there before each call of the UNet."""
    probe.reset()
    assert webui.img2img(BETA, mask=left_half(), inpaint_full_res=False, inpainting_fill=1, mask_blur=0).status == 200
    calls = [call for call in probe.records().calls if call.sampling]
    for recorded, generated in pairwise(calls):
        if recorded.output is None:
            assert relative(generated.x[0][:, :, 8:], recorded.x[0][:, :, 8:]) < 1e-5


def test_content_picture(webui: WebUI, probe: Probe):
    ditail = {**BETA, "picture": encode(circle(200, 200))}
    probe.reset()
    one = webui.txt2img(ditail, width=128, height=192)
    assert one.status == 200, one.body
    assert probe.records().samples[0].shape == (1, 4, 24, 16)
    probe.reset()
    many = webui.txt2img(ditail, width=128, height=192, batch_size=2)
    assert many.status == 200
    records = probe.records()
    assert records.loads == records.reuses == []


def test_hires_fix_has_ditail_in_its_first_pass(webui: WebUI, probe: Probe):
    ditail = {**BETA, "picture": encode(circle())}
    request = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.6}
    webui.txt2img(ditail)
    probe.reset()
    first_pass = webui.txt2img(ditail)
    assert first_pass.status == 200
    small = [call for call in probe.records().calls if call.x.shape[-1] == 16]
    probe.reset()
    both = webui.txt2img(ditail, **request)
    assert both.status == 200, both.body
    assert "Ditail range: first pass only" in both.infotext
    calls = probe.records().calls
    again = [call for call in calls if call.x.shape[-1] == 16]
    large = [call for call in calls if call.x.shape[-1] == 24]
    assert len(again) == len(small)
    assert all(relative(a.x, b.x) < 1e-5 for a, b in zip(again, small, strict=True))
    assert large
    assert all(call.output is not None for call in large)


def test_the_host_shows_the_inversions_progress(webui: WebUI, probe: Probe):
    webui.post("/ditail/v1/cache/clear")
    probe.reset(delay=0.3)
    answers: list[Answer] = []
    work = threading.Thread(target=lambda: answers.append(webui.img2img(BETA, steps=10)))
    seen: list[dict[str, Any]] = []
    with options(webui, {"show_progress_every_n_steps": 1}):
        work.start()
        while work.is_alive():
            seen.append(webui.get("/sdapi/v1/progress").body)
            work.join(0.2)
    assert answers[0].status == 200
    inverting = [body for body in seen if "Ditail" in (body["textinfo"] or "")]
    assert len(inverting) >= 3
    progress = [body["progress"] for body in seen if body["state"]["job"]]
    assert all(0 <= value <= 1 for value in progress)
    assert max(body["progress"] for body in inverting) > min(body["progress"] for body in inverting)
    assert any(body["current_image"] for body in inverting)
