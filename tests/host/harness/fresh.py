"""What is kept, compared with a fresh start: small pictures, and everything forgotten before them."""

from __future__ import annotations

from typing import Any

from .client import Answer
from .server import WebUI


def make(webui: WebUI, ditail: dict[str, Any], **request: Any) -> list[bytes]:
    """A small picture from the red circle."""
    small: dict[str, Any] = {"steps": 3, "denoising_strength": 1.0, **request}
    return _pixels(webui.img2img(ditail, **small))


def generate(webui: WebUI, ditail: dict[str, Any], **request: Any) -> list[bytes]:
    """A small picture of a content that the source generates."""
    return _pixels(webui.txt2img(ditail, **{"steps": 3, **request}))


def fresh(webui: WebUI, ditail: dict[str, Any], **request: Any) -> list[bytes]:
    """As :func:`make`, with nothing kept."""
    webui.post("/ditail/v1/cache/clear")
    return make(webui, ditail, **request)


def _pixels(answer: Answer) -> list[bytes]:
    assert answer.status == 200, answer.body
    return answer.pixels
