"""Generations of all kinds in any order: each is Ditail's, and nothing grows."""

from __future__ import annotations

import random
from typing import Any

from harness.client import circle, encode
from harness.server import WebUI

from .judge import Findings, compare, flat, memory, state

SAMPLERS = ("DDIM", "Euler", "Euler a", "DPM++ 2M", "DPM++ SDE", "UniPC", "Heun", "LCM", "PLMS", "Restart")


def run(webui: WebUI, findings: Findings, count: int, seed: int) -> None:
    """So many, from a seed."""
    choose = random.Random(seed)
    before, start = state(webui), None
    for number in range(count):
        if number == min(count // 4, 60):  # by then the caches are full, and every model has been loaded
            start = memory(webui)
        webui.probe.reset()
        tab, ditail, request = _generation(choose)
        answer = getattr(webui, tab)(ditail, **request)
        findings.tried["generations"] += 1
        if answer.status == 422 and answer.sentence.startswith("Ditail: "):
            findings.tried["generations refused"] += 1  # too few steps for the sampler, say
        elif answer.status != 200:
            findings.add(f"status {answer.status}", (answer.sentence, tab, ditail, request))
        elif "Ditail version" not in answer.infotext:
            findings.add("a silent plain picture", (tab, ditail, request))
    compare(before, state(webui), findings, f"{count} generations")
    if start is not None:
        flat(start, memory(webui), findings, f"{count} generations")


def _generation(choose: random.Random) -> tuple[str, dict[str, Any], dict[str, Any]]:
    tab = choose.choice(("txt2img", "img2img"))
    ditail: dict[str, Any] = {
        "source_checkpoint": choose.choice(("beta.safetensors", "delta.safetensors", "same as target", "twin.ckpt")),
        "feature_ratio": choose.choice((0.0, 0.3, 0.8, 1.0)),
        "attention_ratio": choose.choice((0.0, 0.5, 1.0)),
        "refinements": choose.choice((0, 0, 1)),
        "layer_profile": choose.choice(("default", "strong", "full")),
    }
    request: dict[str, Any] = {
        "width": choose.choice((72, 128)),
        "height": 64,
        "steps": choose.randint(4, 6),
        "seed": choose.randrange(2**31),
        "sampler_name": choose.choice(SAMPLERS),
        "batch_size": choose.choice((1, 1, 2)),
        "n_iter": choose.choice((1, 1, 2)),
        "cfg_scale": choose.choice((1, 4)),
        "prompt": choose.choice(("a red circle", "a AND b", "<lora:tiny:1> x", "[a:b:0.5]")),
    }
    if tab == "txt2img" and choose.random() < 0.5:
        ditail["picture"] = encode(circle(64))
    if choose.random() < 0.2:
        ditail |= {"mix_checkpoint": "delta.safetensors", "mix_weight": 0.5}
    if choose.random() < 0.2:
        ditail |= {"mask": encode(circle(128).convert("L").resize((request["width"], 64))), "region": "region mask"}
    if choose.random() < 0.2:
        ditail["inversion_prompt"] = "a disc <lora:tiny:0.5>"
    if tab == "txt2img" and choose.random() < 0.2:
        request |= {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.6}
    if tab == "img2img":
        request["denoising_strength"] = choose.choice((0.6, 1.0))
    return tab, ditail, request
