"""A target between two checkpoints: it is that target, for Ditail's pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from harness.mixes import ALPHA, BETA, DELTA, PROMPT, TAG, ask, mixed, plain, sample
from harness.probe import Probe, Records
from harness.reference import relative
from harness.server import WebUI


def test_weight_0_is_the_target_alone(webui: WebUI, probe: Probe):
    without, _ = ask(webui, probe, {"source_checkpoint": BETA})
    answer, records = ask(webui, probe, mixed(0.0))
    assert answer.pixels == without.pixels
    assert records.loads == [BETA]
    assert "Ditail without effect: mix_checkpoint" in answer.infotext
    assert "mix" not in answer.info["extra_generation_params"]["Ditail seconds"]


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
@pytest.mark.parametrize(
    ("target", "other"), [(ALPHA, DELTA), ("twin.safetensors", "twin.ckpt"), ("twin.ckpt", "twin.safetensors")]
)
def test_weight_1_is_the_other_checkpoint_as_target(webui: WebUI, probe: Probe, target: str, other: str, sampler: str):
    found = sample(webui, probe, mixed(1.0, other), target=target, sampler_name=sampler)
    alone = {"source_checkpoint": BETA}
    assert torch.equal(found, sample(webui, probe, alone, target=other, sampler_name=sampler))
    assert relative(found, sample(webui, probe, alone, target=target, sampler_name=sampler)) > 0.05


@pytest.mark.parametrize("route", ["img2img", "txt2img"])
@pytest.mark.parametrize("prompt", [PROMPT, f"{PROMPT} {TAG}"], ids=["plain", "LoRA"])
def test_a_mix_is_the_merged_checkpoint_as_target(webui: WebUI, probe: Probe, halfway: str, prompt: str, route: str):
    """In txt2img the source generates the content."""
    ditail = {"inversion_prompt": PROMPT}
    request = {"route": route, "prompt": prompt, "n_iter": 2}
    found, records = ask(webui, probe, mixed(0.5, **ditail), **request)
    expected, merged = ask(webui, probe, {"source_checkpoint": BETA, **ditail}, target=halfway, **request)
    assert len(records.samples) == 2
    assert all((a == b).all() for a, b in zip(records.samples, merged.samples, strict=True))
    assert found.pixels == expected.pixels
    assert found.info["extra_generation_params"]["Ditail seconds"]["mix"] > 0


@pytest.mark.parametrize("functional", [False, True])
def test_loras_before_during_and_after(webui: WebUI, probe: Probe, halfway: str, functional: bool):
    """The host keeps copies of the weights that it merged LoRAs into: neither mixed nor merged ones may stay."""
    plain(webui)  # what is merged when the option changes, the host leaves merged
    webui.post("/sdapi/v1/options", {"lora_functional": functional})
    try:
        before = plain(webui), plain(webui, f"{PROMPT} {TAG}")
        for prompt in (f"{PROMPT} {TAG}", PROMPT, f"{PROMPT} <lora:tiny:0.5>"):
            found = sample(webui, probe, mixed(0.5, inversion_prompt=PROMPT), prompt=prompt)
            after = plain(webui, f"{PROMPT} {TAG}"), plain(webui)
            assert after == before[::-1]
            alone = {"source_checkpoint": BETA, "inversion_prompt": PROMPT}
            assert torch.equal(found, sample(webui, probe, alone, target=halfway, prompt=prompt))
            plain(webui, f"{PROMPT} {TAG}")  # the next mix starts from merged weights
    finally:
        webui.post("/sdapi/v1/options", {"lora_functional": False})


def recorded(records: Records) -> int:
    return sum(call.output is None for call in records.calls)


def test_features_are_kept_for_each_mix_apart(webui: WebUI, probe: Probe):
    def again(ditail: dict[str, Any]) -> Records:
        probe.reset()
        assert webui.img2img(ditail, seed=9).status == 200
        return probe.records()

    _, first = ask(webui, probe, mixed(0.5))
    assert recorded(again(mixed(0.5))) == 0
    for other in (mixed(0.4), mixed(0.5, BETA), {"source_checkpoint": BETA}):
        kept = again(other)
        assert recorded(kept) == recorded(first) > 0
        _, fresh = ask(webui, probe, other)
        assert relative(kept.samples[0], fresh.samples[0]) < 1e-5
        ask(webui, probe, mixed(0.5))


def test_the_infotext_asks_for_the_same_mix(webui: WebUI, probe: Probe):
    first, _ = ask(webui, probe, mixed(0.3))
    assert "Ditail mix with: delta.safetensors [" in first.infotext
    assert "Ditail mix weight: 0.3" in first.infotext
    again = webui.img2img(infotext=first.infotext)
    assert again.status == 200, again.body
    assert again.infotext.split("Ditail")[1:] == first.infotext.split("Ditail")[1:]
    assert again.pixels == first.pixels


@pytest.mark.parametrize(
    ("ditail", "named"),
    [
        ({"mix_weight": 0.5}, "mix_weight"),
        ({"mix_checkpoint": DELTA}, "mix_checkpoint"),
        (mixed(0.5, ALPHA), "mix_checkpoint and mix_weight"),
    ],
)
def test_what_has_no_effect_is_said(webui: WebUI, probe: Probe, ditail: dict[str, Any], named: str):
    without, _ = ask(webui, probe, {"source_checkpoint": BETA})
    answer, _ = ask(webui, probe, {"source_checkpoint": BETA, **ditail})
    assert f"Ditail without effect: {named}," in answer.infotext
    assert answer.pixels == without.pixels
