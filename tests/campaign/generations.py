"""Generations of all kinds in any order: each is Ditail's, and nothing grows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from harness.client import circle, encode
from harness.server import WebUI

from .judge import Findings, compare, flat, memory, state
from .progress import Progress

SAMPLERS = ("DDIM", "Euler", "Euler a", "DPM++ 2M", "DPM++ SDE", "UniPC", "Heun", "LCM", "PLMS", "Restart")


PIECE = 25
"""Generations after which the host's state is compared, and the run may be broken off."""

WARM = 3
"""Pieces after which the caches are full, and every model has been loaded."""


def run(
    webui: WebUI, progress: Progress, count: int, seed: int = 1, report: Callable[[str], None] = lambda _: None
) -> None:
    """So many, from a seed, but for the pieces that are done."""
    findings = progress.findings
    before, start, pieces, begun = state(webui), None, 0, time.monotonic()
    for first in range(0, count, PIECE):
        piece = f"generations {first} to {min(first + PIECE, count)} of seed {seed}"
        if piece in progress:
            continue
        choose = random.Random(piece)
        for _ in range(min(PIECE, count - first)):
            _one(webui, findings, choose)
        compare(before, state(webui), findings, piece)
        progress.add(piece)
        pieces += 1
        if pieces == WARM:
            start = but_for_caches(webui)
        report(f"{piece}: {time.monotonic() - begun:.0f} s, {memory(webui)[0]} MB, found {len(findings.found)}")
    if start is not None:
        flat(start, but_for_caches(webui), findings, "generations")


def but_for_caches(webui: WebUI) -> tuple[int, int]:
    """As ``memory``, without what Ditail says that it keeps: recorded features are kept as long as there is room."""
    kept = webui.get("/ditail/v1/cache").body
    megabytes, files = memory(webui)
    return megabytes - (kept["bytes"] + kept["feature_bytes"]) // 2**20, files


def _one(webui: WebUI, findings: Findings, choose: random.Random) -> None:
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


def _generation(choose: random.Random) -> tuple[str, dict[str, Any], dict[str, Any]]:
    tab = choose.choice(("txt2img", "img2img"))
    ditail: dict[str, Any] = {
        "source_checkpoint": choose.choice(("beta.safetensors", "delta.safetensors", "same as target", "twin.ckpt")),
        "feature_ratio": choose.choice((0.0, 0.3, 0.8, 1.0)),
        "attention_ratio": choose.choice((0.0, 0.5, 1.0)),
        "refinements": choose.choice((0, 0, 1)),
        "inversion_rule": choose.choice(("authors", "warm start", "fast")),
        "layer_profile": choose.choice(("default", "strong", "full")),
        "record_every": choose.choice((1, 1, 2)),
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
    if tab == "img2img" and choose.random() < 0.3:
        ditail |= {"mask": encode(circle(128).convert("L")), "region": "region mask"}
    if choose.random() < 0.15:
        ditail |= {"aggregate_1": "delta.safetensors", "aggregation_ratio": 0.5}
    if choose.random() < 0.2:
        ditail["inversion_prompt"] = "a disc <lora:tiny:0.5>"
    if tab == "txt2img" and choose.random() < 0.2:
        request |= {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.6}
    if tab == "img2img":
        request["denoising_strength"] = choose.choice((0.6, 1.0))
    return tab, ditail, request
