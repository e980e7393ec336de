"""What the tests of SDXL and SD2 share: a generation as the probe saw it, and whose calls are whose."""

from __future__ import annotations

from typing import Any

from .probe import Call, Records
from .server import WebUI


def generate(webui: WebUI, ditail: dict[str, Any] | None, *, txt2img: bool = False, **request: Any) -> Records:
    """What happened in a request that has to succeed; ``watch`` is the probe's switch."""
    webui.probe.reset(watch=request.pop("watch", None))
    answer = (webui.txt2img if txt2img else webui.img2img)(ditail, **request)
    assert answer.status == 200, answer.sentence
    return webui.probe.records()


def recorded(records: Records) -> list[Call]:
    """The passes of the source's latents through the target, which are broken off."""
    return [call for call in records.calls if call.output is None]


def made_by(records: Records, checkpoint: str) -> list[Call]:
    """The calls while a checkpoint was loaded."""
    return [call for call in records.calls if call.checkpoint == checkpoint]
