"""Requests with masks, and halves of what they make."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from .client import SQUARE, SQUARE_CIRCLE, encode
from .probe import Probe, Records
from .server import WebUI

BETA = {"source_checkpoint": "beta.safetensors"}
NOWHERE = {**BETA, "feature_ratio": 0.0, "attention_ratio": 0.0}


def square(*, txt2img: bool) -> dict[str, Any]:
    """A request as square as the masks are."""
    return SQUARE if txt2img else SQUARE_CIRCLE


def half(size: tuple[int, int] = (128, 128), bright: int = 255) -> Image.Image:
    """Bright on the left."""
    mask = Image.new("L", size)
    mask.paste(bright, (0, 0, size[0] // 2, size[1]))
    return mask


def region(mask: Image.Image, **more: Any) -> dict[str, Any]:
    return {**BETA, "mask": encode(mask), "region_blur": 0, **more}


def inpaint(mask: Image.Image, **more: Any) -> dict[str, Any]:
    """The API's defaults are those of "only masked"."""
    return {"mask": encode(mask), "inpainting_fill": 1, "mask_blur": 0, "inpaint_full_res": False, **more}


def generate(
    webui: WebUI, probe: Probe, ditail: dict[str, Any], watch: str | None = None, *, txt2img: bool = False, **more: Any
) -> Records:
    probe.reset(watch=watch)
    answer = (webui.txt2img if txt2img else webui.img2img)(ditail, **{**square(txt2img=txt2img), **more})
    assert answer.status == 200, answer.body
    return probe.records()


def recorded(records: Records) -> int:
    return sum(call.output is None for call in records.calls)


def left(latents: np.ndarray) -> np.ndarray:
    return latents[..., : latents.shape[-1] // 2]


def right(latents: np.ndarray) -> np.ndarray:
    return latents[..., latents.shape[-1] // 2 :]
