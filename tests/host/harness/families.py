"""What the tests of SDXL and SD2 share: the checkpoints, a generation as the probe saw it, whose calls are whose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .probe import Call, Records
from .server import WebUI


@contextmanager
def families_in(webui: WebUI, files: Path) -> Iterator[WebUI]:
    """A WebUI with narrow SDXL and SD2 checkpoints: ``xl-alpha``, ``xl-beta``, ``sd2-alpha``, ``sd2-beta``."""
    links = [webui.checkpoints / file.name for file in files.iterdir() if file.name != "complete"]
    for link in links:
        link.symlink_to(files / link.name)
    webui.post("/sdapi/v1/refresh-checkpoints")
    yield webui
    webui.txt2img(steps=2)  # the option's checkpoint again
    for link in links:
        link.unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


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
