"""Further checkpoints' latents merged with the target's: equal to the core's, whatever else the request asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from harness.client import SQUARE, SQUARE_CIRCLE, circle, left_half
from harness.mixes import ALPHA, BETA, PROMPT, TAG, ask
from harness.probe import Probe, Records
from harness.reference import NEGATIVE, Reference, ddim_path, relative
from harness.server import WebUI
from harness.state import options as set_options

from ditail_ext.core import (
    Aggregation,
    Companion,
    Companions,
    Injection,
    Level,
    Prompts,
    Slerp,
    Window,
    guided_noise,
    sample,
)
from ditail_ext.settings import Settings

pytestmark = pytest.mark.server("held")

ALONE = {"aggregation": "alone", "aggregate_1": BETA, "aggregation_ratio": 0.4}
ITSELF = {"aggregation": "alone", "aggregate_1": ALPHA, "aggregation_ratio": 0.5}
SAMPLERS = (
    *("DDIM", "DDIM CFG++", "PLMS", "Euler", "Euler a", "LMS", "Heun", "DPM2", "DPM2 a", "DPM++ 2S a", "DPM++ 2M"),
    *("DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"),
)


def sampled(records: Records) -> torch.Tensor:
    return torch.as_tensor(records.samples[0])


def companions(reference: Reference, window: Window, prompt: str = PROMPT, weight: float = 0.5) -> Companions:
    """The source of a reference as the further checkpoint."""
    model = reference.source
    prompts = Prompts(*(model.encode_prompt(text) for text in (prompt, NEGATIVE, "")))
    rule = Aggregation(Slerp.beside_target([weight]), window)
    estimate = guided_noise(model.predict_noise, prompts, cfg_scale=4.0)
    return Companions(rule, [Companion(estimate)], model.schedule)


def expected(
    reference: Reference, start: torch.Tensor, levels: list[Level], clean: Level, beside: Any
) -> torch.Tensor:
    target = reference.target
    prompts = Prompts(*(target.encode_prompt(text) for text in (PROMPT, NEGATIVE, "")))
    return sample(target.predict_noise, start, levels, prompts, cfg_scale=4.0, clean=clean, companions=beside)


@pytest.mark.parametrize("prompt", ["", "a green square"])
@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
def test_alone_it_is_the_core_s(
    webui: WebUI, probe: Probe, model_files: Path, sampler: str, prompt: str, record_property
):
    own = {**ALONE, "aggregate_1_prompt": prompt}
    answer, records = ask(webui, probe, own, route="txt2img", sampler_name=sampler, **SQUARE)
    of_target = [call for call in records.calls if call.checkpoint == ALPHA]
    of_beta = [call for call in records.calls if call.checkpoint == BETA]
    steps = len(of_target)
    assert len(of_beta) == len(Window.from_ratio(0.4, steps)) == 2
    assert sum(call.rows for call in of_beta) == 4
    reference = Reference(model_files, BETA, ALPHA)
    at = reference.target.schedule.at_timestep
    levels = [at(float(call.timesteps[0])) for call in of_target]
    clean = at(1) if sampler == "DDIM" else Level.clean()
    beside = companions(reference, Window.from_ratio(0.4, steps), prompt or PROMPT)
    wanted = expected(reference, torch.as_tensor(of_target[0].x[:1]), levels, clean, beside)
    distance = relative(sampled(records), wanted)
    record_property("relative distance", distance)
    assert distance < 1e-4
    plain, _ = ask(webui, probe, {"enabled": False}, route="txt2img", sampler_name=sampler, **SQUARE)
    assert answer.pixels != plain.pixels
    assert answer.info["extra_generation_params"]["Ditail seconds"]["aggregate"] > 0


def test_with_injection_it_is_the_core_s(webui: WebUI, probe: Probe, model_files: Path, record_property):
    """All start from the inverted latent; the features go into the target alone."""
    request = {"source_checkpoint": BETA, "aggregate_1": BETA, "aggregation_ratio": 0.7}
    _, records = ask(webui, probe, request, **SQUARE_CIRCLE)
    reference = Reference(model_files, BETA, ALPHA)
    path, settings = ddim_path(reference), Settings(enabled=True)
    trajectory = reference.trajectory(circle(128, 128), path, settings)
    windows = [Window.from_ratio(share, 3) for share in (settings.feature_ratio, settings.attention_ratio)]
    prompts = Prompts(*(reference.target.encode_prompt(text) for text in (PROMPT, NEGATIVE, "")))
    with Injection(reference.target.unet, feature_window=windows[0], attention_window=windows[1]) as injection:
        wanted = sample(
            reference.target.predict_noise,
            trajectory.start,
            path.levels,
            prompts,
            cfg_scale=4.0,
            clean=path.clean,
            trajectory=trajectory,
            injection=injection,
            companions=companions(reference, Window.from_ratio(0.7, 3)),
        )
    distance = relative(sampled(records), wanted)
    record_property("relative distance", distance)
    assert distance < 1e-4
    _, injected = ask(webui, probe, {"source_checkpoint": BETA}, **SQUARE_CIRCLE)
    assert relative(sampled(records), sampled(injected)) > 0.01


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_itself_the_target_makes_its_own_picture(webui: WebUI, probe: Probe, sampler: str):
    """One checkpoint told the same twice merges with itself: noise, guidance and steps are the host's."""
    request = {"route": "txt2img", "sampler_name": sampler, "batch_size": 2, "width": 64, "height": 64}
    _, records = ask(webui, probe, ITSELF, **request)
    _, plain = ask(webui, probe, {"enabled": False}, **request)
    assert len(records.calls) > len(plain.calls)
    assert relative(sampled(records), sampled(plain)) < 2e-4


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        ({"route": "img2img"}, {}),
        ({"route": "img2img", "mask": left_half(), "sampler_name": "Euler a"}, {}),
        ({"route": "img2img", "mask": left_half()}, {}),
        ({"route": "txt2img", "prompt": "a red circle AND a blue square :0.5"}, {}),
        ({"route": "txt2img", "prompt": "a [red:blue:0.3] circle", "sampler_name": "Heun"}, {}),
        ({"route": "txt2img", "prompt": "a red circle, " * 40}, {}),
        ({"route": "txt2img", "enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.5}, {}),
        ({"route": "txt2img"}, {"batch_cond_uncond": False}),
        ({"route": "img2img", "sampler_name": "Euler"}, {"s_churn": 5.0}),
        ({"route": "txt2img", "cfg_scale": 1.0}, {}),
    ],
    ids=["img2img", "mask", "mask DDIM", "AND", "scheduled", "long", "hires", "apart", "churn", "unguided"],
)
def test_with_itself_in_every_kind_of_request(
    webui: WebUI, probe: Probe, request_: dict[str, Any], options: dict[str, Any]
):
    with set_options(webui, options):
        # The host encodes img2img's picture with whatever noise the request before has left to be drawn next.
        ask(webui, probe, {"enabled": False}, **request_)
        answer, _ = ask(webui, probe, ITSELF, **request_)
        plain, _ = ask(webui, probe, {"enabled": False}, **request_)
    found, wanted = (torch.frombuffer(bytearray(one.pixels[0]), dtype=torch.uint8).int() for one in (answer, plain))
    assert (found - wanted).abs().max() <= 1


def test_noise_that_the_sampler_draws_itself_is_the_same_for_all(webui: WebUI, probe: Probe):
    """With the host's option the Brownian motion is not by seed: what the models start their steps from must agree."""
    with set_options(webui, {"no_dpmpp_sde_batch_determinism": True}):
        request = {"route": "txt2img", "sampler_name": "DPM++ 2M SDE"}
        _, records = ask(webui, probe, {**ITSELF, "aggregation_start": 0.3}, **request)
    by_timestep: dict[float, list[Any]] = {}
    for call in records.calls:
        by_timestep.setdefault(float(call.timesteps[0]), []).append(call.x)
    together = [calls for calls in by_timestep.values() if len(calls) == 2]
    assert len(together) >= 2
    assert all(relative(other, target) < 1e-4 for target, other in together)


def test_each_image_of_a_batch_is_as_alone(webui: WebUI, probe: Probe):
    request = {"route": "txt2img", "sampler_name": "DPM++ 2M SDE"}
    _, both = ask(webui, probe, ALONE, batch_size=2, **request)
    _, second = ask(webui, probe, ALONE, seed=8, **request)
    assert relative(both.samples[0][1:], second.samples[0]) < 1e-4
    _, count = ask(webui, probe, ALONE, n_iter=2, **request)
    assert relative(count.samples[1], second.samples[0]) < 1e-4


def test_a_later_batch_is_as_the_first(webui: WebUI, probe: Probe):
    """The host keeps img2img's sampler for all batches: nothing of one may be left in it for the next."""
    both = {"source_checkpoint": BETA, "aggregate_1": BETA, "aggregation_ratio": 0.7}
    for ditail in (both, {**ALONE, "aggregation_ratio": 0.7}):
        _, records = ask(webui, probe, ditail, n_iter=2)
        calls = [(call.checkpoint, call.rows) for call in records.calls if call.sampling and call.rows == 2]
        assert calls[: len(calls) // 2] == calls[len(calls) // 2 :]
        if ditail is both:
            assert relative(records.samples[1], records.samples[0]) < 1e-5  # a given picture leaves the seed no part
    before = probe.state()
    assert webui.img2img(both, n_iter=2).status == 200
    assert probe.state() == before


def test_three_further_checkpoints(webui: WebUI, probe: Probe):
    three = {"aggregation": "alone", "aggregation_ratio": 0.4}
    for number, name in enumerate((BETA, "gamma.safetensors", "delta.safetensors"), 1):
        three |= {f"aggregate_{number}": name, f"aggregate_{number}_weight": 0.2}
    before = probe.state()
    answer, records = ask(webui, probe, three, route="txt2img")
    called = [call.checkpoint for call in records.calls]
    assert called[:4] == [ALPHA, BETA, "gamma.safetensors", "delta.safetensors"]
    assert set(called[-3:]) == {ALPHA}
    assert probe.state() == before
    again = webui.txt2img(infotext=answer.infotext)
    assert again.pixels == answer.pixels
    assert again.infotext == answer.infotext


def test_networks_belong_to_whom_they_are_told(webui: WebUI, probe: Probe):
    """The main prompt's LoRA is the target's; one in a further checkpoint's own prompt is that one's."""

    def beta_says(**request: Any) -> torch.Tensor:
        ditail = {**ALONE, **request.pop("ditail", {})}
        _, records = ask(webui, probe, ditail, route="txt2img", **request)
        return next(torch.as_tensor(call.output) for call in records.calls if call.checkpoint == BETA)

    without = beta_says()
    own = {"ditail": {"aggregate_1_prompt": f"{PROMPT} {TAG}"}}
    assert torch.equal(beta_says(prompt=f"{PROMPT} {TAG}"), without)
    assert relative(beta_says(**own), without) > 1e-3
    assert torch.equal(beta_says(), without)
    before, _ = ask(webui, probe, {"enabled": False}, route="txt2img", prompt=f"{PROMPT} {TAG}")
    beta_says(**own, prompt=f"{PROMPT} {TAG}")
    after, _ = ask(webui, probe, {"enabled": False}, route="txt2img", prompt=f"{PROMPT} {TAG}")
    assert after.pixels == before.pixels
