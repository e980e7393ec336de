"""LoRAs: the target's are not the source's."""

from __future__ import annotations

from typing import Any

import pytest
from harness.probe import Probe, Records
from harness.reference import relative
from harness.server import WebUI

pytestmark = pytest.mark.server("held")

TAG = "<lora:tiny:1>"
PROMPT = "a red circle"


def generate(webui: WebUI, probe: Probe, ditail: dict[str, Any], **request: Any) -> Records:
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    answer = webui.img2img(ditail, **request)
    assert answer.status == 200, answer.body
    return probe.records()


def inversion(records: Records) -> list[Any]:
    return [call.output for call in records.calls if not call.sampling]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("beta.safetensors", "alpha.safetensors"),
        ("twin.ckpt", "twin.safetensors"),
        ("same as target", "alpha.safetensors"),
    ],
)
def test_a_lora_of_the_prompt_changes_the_target_and_not_the_inversion(
    webui: WebUI, probe: Probe, source: str, target: str
):
    request = {"override_settings": {"sd_model_checkpoint": target}}
    ditail = {"source_checkpoint": source}
    webui.txt2img(prompt="a red circle", **request)  # no LoRA active
    without = generate(webui, probe, ditail, **request)
    with_lora = generate(webui, probe, ditail, prompt=f"{PROMPT} {TAG}", **request)
    assert webui.probe.state()["loras"] == ["tiny"]
    after = generate(webui, probe, ditail, prompt=f"{PROMPT} {TAG}", **request)
    then_without = generate(webui, probe, ditail, **request)
    for other in (with_lora, after, then_without):
        assert all((a == b).all() for a, b in zip(inversion(without), inversion(other), strict=True))
    assert relative(with_lora.samples[0], without.samples[0]) > 0.01
    assert relative(after.samples[0], with_lora.samples[0]) < 1e-4
    assert relative(then_without.samples[0], without.samples[0]) < 1e-4


@pytest.mark.parametrize("source", ["beta.safetensors", "same as target"])
def test_a_lora_of_the_inversion_prompt_is_the_sources(webui: WebUI, probe: Probe, source: str):
    ditail = {"source_checkpoint": source, "inversion_prompt": PROMPT}
    without = generate(webui, probe, ditail)
    tagged = generate(webui, probe, {**ditail, "inversion_prompt": f"{PROMPT} {TAG}"})
    again = generate(webui, probe, ditail)
    assert relative(inversion(tagged)[-1], inversion(without)[-1]) > 0.01
    assert (inversion(again)[-1] == inversion(without)[-1]).all()
    assert relative(again.samples[0], without.samples[0]) < 1e-4
    # The target has no LoRA: its record passes differ only through the latents.
    assert webui.probe.state()["loras"] == []


def test_an_unknown_lora_of_the_inversion_prompt_is_refused(webui: WebUI):
    answer = webui.img2img({"inversion_prompt": "x <lora:nothing:1>"})
    assert (answer.status, "Inversion prompt" in answer.sentence) == (422, True), answer.body
