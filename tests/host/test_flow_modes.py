"""Masks, hires fix, refiner, content picture, VAE, flags, progress."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from flow_reference import relative
from flow_state import unchanged_host
from harness.client import Answer, circle, encode
from harness.probe import Probe
from harness.server import WebUI
from PIL import Image

BETA = {"source_checkpoint": "beta.safetensors"}


def mask(size: int = 128) -> str:
    """White, that is regenerated, on the left half."""
    pixels = np.zeros((size, size), np.uint8)
    pixels[:, : size // 2] = 255
    return encode(Image.fromarray(pixels))


@pytest.mark.parametrize("sampler", ["DDIM", "Euler", "UniPC"])
@pytest.mark.parametrize("full_resolution", [True, False])
@pytest.mark.parametrize("fill", [0, 1, 2, 3])
def test_inpainting(webui: WebUI, probe: Probe, sampler: str, full_resolution: bool, fill: int):
    request = {"mask": mask(), "inpaint_full_res": full_resolution, "inpainting_fill": fill, "mask_blur": 0}
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
    assert webui.img2img(BETA, mask=mask(), inpaint_full_res=False, inpainting_fill=1, mask_blur=0).status == 200
    calls = [call for call in probe.records().calls if call.sampling]
    for recorded, generated in pairwise(calls):
        if recorded.output is None:
            assert relative(generated.x[0][:, :, 8:], recorded.x[0][:, :, 8:]) < 1e-5


def test_content_picture(webui: WebUI, probe: Probe):
    ditail = {**BETA, "picture": encode(circle(200))}
    probe.reset()
    one = webui.txt2img(ditail, width=128, height=192)
    assert one.status == 200, one.body
    assert probe.records().samples[0].shape == (1, 4, 24, 16)
    probe.reset()
    many = webui.txt2img(ditail, width=128, height=192, batch_size=2)
    assert many.status == 200
    assert not probe.records().loads


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


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
def test_ditail_ends_at_the_refiner(webui: WebUI, probe: Probe, sampler: str):
    with unchanged_host(webui):
        request = {"refiner_checkpoint": "delta.safetensors", "refiner_switch_at": 0.6, "sampler_name": sampler}
        answer = webui.img2img({**BETA, "feature_ratio": 1.0}, steps=10, denoising_strength=0.9, **request)
        assert answer.status == 200, answer.body
        assert "Ditail range: until the refiner" in answer.infotext
        calls = [call for call in probe.records().calls if call.sampling]
        assert {call.checkpoint for call in calls} == {"alpha.safetensors", "delta.safetensors"}
        assert all(call.output is not None for call in calls if call.checkpoint == "delta.safetensors")
        webui.txt2img()  # back to alpha


@pytest.mark.parametrize("flag", ["--medvram", "--lowvram"])
def test_low_memory(start_webui: Callable[..., WebUI], webui: WebUI, probe: Probe, flag: str):
    """What the host's flags move about does not change the picture."""
    other = start_webui(flags=[flag])
    expected = webui.img2img(BETA)
    assert expected.status == 200
    for _ in range(2):
        other.probe.reset()
        assert other.img2img(BETA).status == 200
        assert relative(other.probe.records().samples[0], probe.records().samples[-1]) < 1e-4


def test_the_host_shows_the_inversions_progress(webui: WebUI, probe: Probe):
    webui.post("/ditail/v1/cache/clear")
    webui.post("/sdapi/v1/options", {"show_progress_every_n_steps": 1, "show_progress_type": "Approx cheap"})
    probe.reset(delay=0.3)
    answers: list[Answer] = []
    work = threading.Thread(target=lambda: answers.append(webui.img2img(BETA, steps=10)))
    work.start()
    seen: list[dict[str, Any]] = []
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
