"""The grid script through the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .client import Answer
from .probe import Probe
from .server import WebUI

NAMES = ["alpha.safetensors", "beta.safetensors", "gamma.safetensors"]
WIDE, HIGH = 128, 64
SHORT = {"steps": 4, "denoising_strength": 1.0, "width": WIDE, "height": HIGH}


def grid(webui: WebUI, names: Any = NAMES, loras: Any = "", *, tab: str = "img2img", **more: Any) -> Answer:
    return getattr(webui, tab)(**{**SHORT, "script_name": "Ditail grid", "script_args": [names, loras], **more})


def cells(answer: Answer) -> list[bytes]:
    assert answer.status == 200, answer.sentence
    return answer.pixels[1:]


def kept(webui: WebUI) -> list[Path]:
    return sorted((webui.data / "outputs").rglob("ditail-grid-cells/*.png"))


def samplings(probe: Probe) -> int:
    return len(probe.records().samples)
