"""Generated sources in a request: when they run anew, what they end with, and what fails."""

from __future__ import annotations

from typing import Any

import pytest
from harness.generated import BETA, EVERYWHERE, NOWHERE, SAMPLERS, ask, clear, plain, recorded
from harness.probe import Probe
from harness.server import WebUI
from harness.state import options, unchanged_host


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_injected_is_the_targets_plain_picture(webui: WebUI, probe: Probe, sampler: str):
    expected, _ = ask(webui, probe, None, sampler_name=sampler)
    found, records = ask(webui, probe, NOWHERE, sampler_name=sampler)
    assert found.pixels == expected.pixels
    assert records.loads == ["beta.safetensors"]
    injected, _ = ask(webui, probe, BETA, sampler_name=sampler)
    assert injected.pixels != expected.pixels


def test_the_source_is_loaded_once_for_all_batches(webui: WebUI, probe: Probe):
    clear(webui)
    _, together = ask(webui, probe, BETA, batch_size=2, n_iter=2)
    assert len(together.samples) == 2
    assert together.loads == ["beta.safetensors"]


def test_the_run_is_kept_for_another_target(webui: WebUI, probe: Probe):
    clear(webui)
    _, first = ask(webui, probe, BETA)
    assert first.loads == ["beta.safetensors"]
    _, again = ask(webui, probe, {**BETA, "attention_ratio": 0.2})
    assert again.loads == again.reuses == []
    assert all(call.sampling for call in again.calls)
    try:
        gamma = {"override_settings": {"sd_model_checkpoint": "delta.safetensors"}}
        _, other = ask(webui, probe, BETA, **gamma)
        assert other.loads == ["delta.safetensors"]
        assert {call.checkpoint for call in other.calls} == {"delta.safetensors"}
        assert (recorded(other)[0].x == recorded(first)[0].x).all()
    finally:
        webui.txt2img(steps=2)


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "prompt": ({}, {"prompt": "a blue square"}),
    "negative prompt": ({}, {"negative_prompt": "red"}),
    "seed": ({}, {"seed": 8}),
    "variation": ({}, {"subseed": 3, "subseed_strength": 0.5}),
    "sampler": ({}, {"sampler_name": "Euler"}),
    "scheduler": ({}, {"sampler_name": "Euler", "scheduler": "Karras"}),
    "steps": ({}, {"steps": 7}),
    "CFG": ({}, {"cfg_scale": 5}),
    "size": ({}, {"width": 136}),
    "eta": ({}, {"eta": 0.5}),
    "LoRA": ({}, {"prompt": "a red circle <lora:tiny:1>"}),
    "LoRA's strength": ({}, {"prompt": "a red circle <lora:tiny:0.5>"}),
    "tiling": ({}, {"tiling": True}),
    "inversion prompt": ({"inversion_prompt": "a cat"}, {}),
    "inversion negative prompt": ({"inversion_negative_prompt": "a cat"}, {}),
    "source": ({"source_checkpoint": "gamma.safetensors"}, {}),
}


def test_everything_that_the_run_depends_on_makes_another(webui: WebUI, probe: Probe):
    clear(webui)
    ask(webui, probe, BETA)
    for name, (ditail, request) in CHANGES.items():
        assert ask(webui, probe, {**BETA, **ditail}, **request)[1].source_ran, name
    kept = {"positive_scale": 2.0, "inversion_rule": "warm start", "refinements": 1, "layer_profile": "strong"}
    answer, records = ask(webui, probe, {**BETA, **kept})
    assert not records.source_ran
    assert "Ditail without effect: positive_scale and inversion_rule and refinements" in answer.infotext
    assert "Ditail positive scale" not in answer.infotext


def test_an_option_makes_another_run(webui: WebUI, probe: Probe):
    clear(webui)
    ask(webui, probe, BETA)
    for name, value in (("eta_noise_seed_delta", 31337), ("CLIP_stop_at_last_layers", 2)):
        with options(webui, {name: value}):
            assert ask(webui, probe, BETA)[1].source_ran
    assert not ask(webui, probe, BETA)[1].source_ran


def test_hires_fix_follows_the_first_pass(webui: WebUI, probe: Probe):
    request = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.6}
    _, alone = plain(webui, probe, "beta.safetensors")
    clear(webui)
    answer, records = ask(webui, probe, EVERYWHERE, **request)
    assert "Ditail range: first pass only" in answer.infotext
    small = [call for call in recorded(records) if call.x.shape[-1] == 16]
    assert len(small) == len(recorded(records)) == len(alone.calls)
    assert all((a.x[0] == b.x[0]).all() for a, b in zip(small, alone.calls, strict=True))
    assert any(call.x.shape[-1] == 24 for call in records.calls)


def test_the_sources_run_ends_with_the_whole_schedule_whatever_the_refiner(webui: WebUI, probe: Probe):
    request = {"refiner_checkpoint": "delta.safetensors", "refiner_switch_at": 0.6, "steps": 10}
    with unchanged_host(webui, but=["object"]):
        clear(webui)
        answer, records = ask(webui, probe, EVERYWHERE, **request)
        assert "Ditail range: until the refiner" in answer.infotext
        assert {call.checkpoint for call in records.calls if not call.sampling} == {"beta.safetensors"}
        sampled = {call.checkpoint for call in records.calls if call.sampling}
        assert sampled == {"alpha.safetensors", "delta.safetensors"}
        webui.txt2img()


@pytest.mark.parametrize(("error", "call"), [("RuntimeError", 1), ("OutOfMemoryError", 4), ("RuntimeError", 8)])
def test_a_failure_leaves_nothing(webui: WebUI, probe: Probe, error: str, call: int):
    """In the source's run, and after it in the target's."""
    with unchanged_host(webui):
        probe.reset(throw_at=call, throw=error)
        answer = webui.txt2img({**EVERYWHERE, "show_content": True})
        assert answer.status >= 400
        assert "images" not in answer.body


def test_a_source_that_does_not_load(webui: WebUI, probe: Probe):
    with unchanged_host(webui):
        probe.reset(throw_load="beta.safetensors")
        answer = webui.txt2img(BETA)
        assert (answer.status, "beta" in answer.sentence) == (422, True)


@pytest.mark.parametrize("stop", ["interrupt", "skip", "stop_generating"])
def test_stopping_the_sources_run_ends_the_request(webui: WebUI, probe: Probe, stop: str):
    with unchanged_host(webui):
        probe.reset(stop_at=3, stop=stop)
        answer = webui.txt2img(BETA)
        assert answer.status == 200
        assert answer.body["images"] == []


def test_a_lora_of_the_request_stays_the_targets(webui: WebUI, probe: Probe):
    """With a LoRA in both runs and nothing injected, the target's picture is the plain one."""
    request = {"prompt": "a red circle <lora:tiny:1>"}
    expected, _ = ask(webui, probe, None, **request)
    for source in ("beta.safetensors", "same as target"):
        clear(webui)
        found, _ = ask(webui, probe, {**NOWHERE, "source_checkpoint": source}, **request)
        assert found.pixels == expected.pixels
        assert probe.state()["loras"] == ["tiny"]
    without, _ = ask(webui, probe, {**NOWHERE})
    assert without.pixels == ask(webui, probe, None)[0].pixels
