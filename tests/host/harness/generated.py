"""Sources that generate their content: asking for them, and what of a run is whose."""

from __future__ import annotations

from typing import Any

from .client import Answer
from .probe import Call, Probe, Records
from .server import WebUI

BETA = {"source_checkpoint": "beta.safetensors"}
EVERYWHERE = {**BETA, "feature_ratio": 1.0, "attention_ratio": 1.0}
NOWHERE = {**BETA, "feature_ratio": 0.0, "attention_ratio": 0.0}

SAMPLERS = ("DDIM", "Euler a", "DPM++ 2M Karras")


def ask(webui: WebUI, probe: Probe, ditail: dict[str, Any] | None, **request: Any) -> tuple[Answer, Records]:
    probe.reset()
    answer = webui.txt2img(ditail, **request)
    assert answer.status == 200, answer.sentence
    return answer, probe.records()


def plain(webui: WebUI, probe: Probe, checkpoint: str, **request: Any) -> tuple[Answer, Records]:
    """The ordinary request with a checkpoint, which is loaded before and not after."""
    try:
        return ask(webui, probe, None, override_settings={"sd_model_checkpoint": checkpoint}, **request)
    finally:
        webui.txt2img(steps=2)  # alpha again


def recorded(records: Records) -> list[Call]:
    """The passes of the source's latents through the target, which are broken off."""
    return [call for call in records.calls if call.output is None]


def clear(webui: WebUI) -> None:
    assert webui.post("/ditail/v1/cache/clear").status == 200
