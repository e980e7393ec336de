"""Every sampler with every scheduler that the WebUI lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness.client import circle, encode
from harness.probe import Probe, Records
from harness.reference import relative
from harness.server import WebUI

from ditail_ext.core import Level, NoiseSchedule, move

pytestmark = pytest.mark.server("held")

BETA = {"source_checkpoint": "beta.safetensors"}
SCHEDULE = NoiseSchedule.stable_diffusion()

TIMESTEP_SAMPLERS = ("DDIM", "DDIM CFG++", "PLMS", "UniPC")
DETERMINISTIC = (*TIMESTEP_SAMPLERS, "Euler", "LMS", "Heun", "DPM2", "DPM++ 2M", "Restart")
STOCHASTIC = (
    *("DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "Euler a", "DPM2 a"),
    *("DPM fast", "DPM adaptive", "LCM"),
)
SCHEDULED = tuple(name for name in (*DETERMINISTIC, *STOCHASTIC) if name not in TIMESTEP_SAMPLERS)
SCHEDULERS = (
    *("Automatic", "Uniform", "Karras", "Exponential", "Polyexponential", "SGM Uniform", "KL Optimal"),
    *("Align Your Steps", "Simple", "Normal", "DDIM", "Beta"),
)
SNAPPING = ("LCM",)
"""Samplers that tell the UNet another timestep than the sigma's."""


def inverted_latent(records: Records, clean: Level) -> np.ndarray:
    """The end of the inversion, from its last UNet call: the latent of the level before, moved by the estimate."""
    calls = [call for call in records.calls if not call.sampling]
    levels = [SCHEDULE.at_timestep(float(call.timesteps[0])) for call in calls]
    before = levels[-2] if len(calls) > 1 else clean
    latent, epsilon = (torch.from_numpy(array).double() for array in (calls[-1].x, calls[-1].output))
    return move(latent, before, levels[-1], epsilon).numpy()


def check(webui: WebUI, probe: Probe, route: str, sampler: str, **request: Any) -> float:
    """Distance of the first input of the generated rows from the inverted latent."""
    ditail: dict[str, Any] = dict(BETA)
    if route == "txt2img":
        ditail["picture"] = encode(circle())
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    answer = getattr(webui, route)(ditail, sampler_name=sampler, **request)
    assert answer.status == 200, (sampler, request, answer.sentence)
    assert ("Ditail start" in answer.infotext) == (sampler in STOCHASTIC)
    records = probe.records()
    first = next(call for call in records.calls if call.sampling and call.output is not None)
    recorded = next(call for call in records.calls if call.sampling)
    assert recorded.output is None
    assert np.isfinite(records.samples[0]).all()
    distance = relative(first.x, np.repeat(inverted_latent(records, Level.clean()), 2, axis=0))
    assert relative(first.x[:1], recorded.x) < 1e-5
    assert abs(first.timesteps[0] - recorded.timesteps[0]) < 1e-3
    if sampler not in SNAPPING:
        assert distance < 1e-5, (sampler, request)
    return distance


def test_the_lists_are_complete(webui: WebUI):
    listed = {sampler["name"] for sampler in webui.get("/sdapi/v1/samplers").body}
    assert listed == {*DETERMINISTIC, *STOCHASTIC}
    assert [entry["label"] for entry in webui.get("/sdapi/v1/schedulers").body] == list(SCHEDULERS)


@pytest.mark.parametrize("sampler", [*DETERMINISTIC, *STOCHASTIC])
@pytest.mark.parametrize("route", ["img2img", "txt2img"])
def test_sampler(webui: WebUI, probe: Probe, route: str, sampler: str, record_property):
    record_property("distance", check(webui, probe, route, sampler))


def in_turn() -> list[tuple[str, str, str]]:
    """Sampler, scheduler and tab: three schedulers for each sampler, four samplers for each scheduler, both tabs."""
    found = []
    for index, sampler in enumerate(SCHEDULED):
        for turn, offset in enumerate((0, 5, 9)):
            scheduler = SCHEDULERS[(index + offset) % len(SCHEDULERS)]
            found.append((sampler, scheduler, ("img2img", "txt2img")[(index + turn) % 2]))
    return found


@pytest.mark.parametrize(("sampler", "scheduler", "route"), in_turn())
def test_schedulers_in_turn(webui: WebUI, probe: Probe, sampler: str, scheduler: str, route: str, record_property):
    record_property("distance", check(webui, probe, route, sampler, scheduler=scheduler))


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("sampler", SCHEDULED)
def test_every_scheduler(webui: WebUI, probe: Probe, sampler: str, scheduler: str, record_property):
    record_property("distance", check(webui, probe, "img2img", sampler, scheduler=scheduler))


@pytest.mark.parametrize("sampler", [*TIMESTEP_SAMPLERS, "Euler", "DPM++ 2M"])
@pytest.mark.parametrize("steps", [7, 20, 30])
@pytest.mark.parametrize("strength", [pytest.param(0.5, marks=pytest.mark.slow), 1.0])
def test_step_counts(webui: WebUI, probe: Probe, sampler: str, steps: int, strength: float):
    """Numbers that do not divide 1000 give timestep samplers one step more."""
    check(webui, probe, "img2img", sampler, steps=steps, denoising_strength=strength)


def test_too_few_steps_are_refused_or_said(webui: WebUI):
    refused = webui.img2img(BETA, sampler_name="UniPC", steps=2, denoising_strength=1.0)
    assert (refused.status, "UniPC needs at least 3 steps" in refused.sentence) == (422, True)
    assert (
        'Ditail injection: "none, no step lies in a window"'
        in webui.img2img(BETA, steps=3, denoising_strength=0.7).infotext
    )


def test_restart_from_twenty_steps_on_adds_noise(webui: WebUI):
    answer = webui.img2img(BETA, sampler_name="Restart", steps=24, denoising_strength=1.0)
    assert answer.status == 200, answer.sentence
    assert "Ditail start" in answer.infotext
