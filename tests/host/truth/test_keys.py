"""What is kept is what would be computed: each input changed, one at a time, and compared with a fresh start."""

from __future__ import annotations

from typing import Any

import pytest
from harness.client import alike, circle, encode
from harness.fresh import fresh, generate, make
from harness.probe import Probe
from harness.server import WebUI
from harness.state import options

pytestmark = pytest.mark.server("held")

BETA = {"source_checkpoint": "beta.safetensors"}
TAG = "a disc <lora:tiny>"


ARGUMENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "positive scale": ({"positive_scale": 1.0}, {}),
    "negative scale": ({"negative_scale": 2.0}, {}),
    "rule": ({"inversion_rule": "warm start"}, {}),
    "rule of few calls": ({"inversion_rule": "fast"}, {}),
    "refinements": ({"refinements": 1}, {}),
    "inversion prompt": ({"inversion_prompt": "a square"}, {}),
    "inversion negative prompt": ({"inversion_negative_prompt": "green"}, {}),
    "network in the inversion prompt": ({"inversion_prompt": TAG}, {}),
    "source": ({"source_checkpoint": "delta.safetensors"}, {}),
    "layers": ({"layer_profile": "full"}, {}),
    "record every": ({"record_every": 3}, {}),
    "prompt": ({}, {"prompt": "a blue square"}),
    "negative prompt": ({}, {"negative_prompt": "yellow"}),
    "network in the prompt": ({}, {"prompt": "a red circle <lora:tiny:1>"}),
    "picture": ({}, {"init_images": [encode(circle(colour=(40, 40, 220)))]}),
    "steps": ({}, {"steps": 4}),
    "denoising strength": ({}, {"denoising_strength": 0.7}),
    "sampler": ({}, {"sampler_name": "Euler"}),
    "scheduler": ({}, {"sampler_name": "Euler", "scheduler": "Karras"}),
    "size": ({}, {"width": 72}),
    "tiling": ({}, {"tiling": True}),
    "preset": ({"preset": "more structure"}, {}),
    "windows": ({"feature_ratio": 1.0, "attention_start": 0.3, "attention_ratio": 1.0}, {}),
    "weights": ({"feature_weight": 0.5, "attention_weight": 0.5}, {}),
    "region": ({"mask": encode(circle().convert("L").point(lambda value: 255 * (value < 120)))}, {}),
    "further checkpoint": ({"aggregate_1": "delta.safetensors", "aggregation_ratio": 1.0}, {}),
    "mix": ({"mix_checkpoint": "delta.safetensors", "mix_weight": 0.5}, {}),
}
"""By input: what changes in Ditail's arguments and in the host's."""

GENERATED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{name: ARGUMENTS[name] for name in ("source", "inversion prompt", "network in the inversion prompt", "layers")},
    **{name: ARGUMENTS[name] for name in ("prompt", "negative prompt", "network in the prompt", "steps", "sampler")},
    **{name: ARGUMENTS[name] for name in ("scheduler", "size", "tiling", "mix", "further checkpoint")},
    "content": ({"picture": encode(circle())}, {}),
    "shown content": ({"show_content": True}, {}),
    "seed": ({}, {"seed": 8}),
    "other seed's share": ({}, {"subseed": 9, "subseed_strength": 0.5}),
    "CFG scale": ({}, {"cfg_scale": 2}),
    "batch": ({}, {"batch_size": 2}),
}
"""The same where the source generates the content, in txt2img."""

OPTIONS = {
    "CLIP_stop_at_last_layers": 2,
    "emphasis": "No norm",
    "extra_networks_default_multiplier": 0.3,
    "use_downcasted_alpha_bar": True,
    "sd_noise_schedule": "Zero Terminal SNR",
    "auto_vae_precision": False,
    "upcast_attn": True,
    "sd_lora": "tiny",
}


def is_kept_truly(webui: WebUI, ditail: dict[str, Any], request: dict[str, Any]) -> bool:
    """With everything kept of another request, the answer is that of a fresh start."""
    fresh(webui, BETA)
    warm = make(webui, BETA | ditail, **request)
    return warm == fresh(webui, BETA | ditail, **request)


@pytest.mark.parametrize("changed", ARGUMENTS)
def test_arguments(webui: WebUI, changed: str):
    assert is_kept_truly(webui, *ARGUMENTS[changed])


@pytest.mark.parametrize("changed", GENERATED)
def test_generated_contents(webui: WebUI, changed: str):
    ditail, request = GENERATED[changed]
    webui.post("/ditail/v1/cache/clear")
    before = generate(webui, BETA)
    warm = generate(webui, BETA | ditail, **request)
    webui.post("/ditail/v1/cache/clear")
    # of a batch one run may be kept, and the other is alone then
    assert alike(warm, generate(webui, BETA | ditail, **request))
    assert warm != before


@pytest.mark.parametrize("changed", OPTIONS)
def test_options(webui: WebUI, changed: str):
    tagged = {**BETA, "inversion_prompt": TAG + " (disc:1.4)"}
    fresh(webui, tagged)
    with options(webui, {changed: OPTIONS[changed]}):
        warm = make(webui, tagged)
        assert warm == fresh(webui, tagged)


def test_nothing_changed(webui: WebUI, probe: Probe):
    first = fresh(webui, BETA)
    probe.reset()
    assert make(webui, BETA) == first
    assert not probe.records().source_ran
    assert probe.records().switches == []


@pytest.mark.parametrize(
    ("fact", "changed"), [("scales", "positive scale"), ("source", "source"), ("picture", "picture")]
)
def test_a_planted_omission_is_seen(webui: WebUI, fact: str, changed: str):
    webui.post(f"/probe/blind?fact={fact}")
    try:
        assert not is_kept_truly(webui, *ARGUMENTS[changed])
    finally:
        webui.post("/probe/blind")
        webui.post("/ditail/v1/cache/clear")
