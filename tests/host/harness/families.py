"""What the tests of other families share: the checkpoints, a generation as the probe saw it, whose calls are whose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .models import inpainting, lora, v_prediction
from .probe import Call, Records
from .reference import relative
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


@contextmanager
def inpainting_in(webui: WebUI, whole: Path, name: str) -> Iterator[WebUI]:
    """A WebUI with a checkpoint's inpainting sibling."""
    inpainting.write(whole, webui.checkpoints / f"{name}.safetensors")
    with _among_checkpoints(webui, name):
        yield webui


@contextmanager
def v_in(webui: WebUI, whole: Path, name: str) -> Iterator[WebUI]:
    """A WebUI with an SDXL checkpoint's sibling that predicts v."""
    v_prediction.write(whole, webui.checkpoints / f"{name}.safetensors")
    with _among_checkpoints(webui, name):
        yield webui


@contextmanager
def _among_checkpoints(webui: WebUI, name: str) -> Iterator[None]:
    """What has been written among a WebUI's checkpoints is known, and gone afterwards."""
    webui.post("/sdapi/v1/refresh-checkpoints")
    yield
    webui.txt2img(steps=2)  # the option's checkpoint again
    for suffix in (".safetensors", ".yaml"):
        (webui.checkpoints / f"{name}{suffix}").unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


@contextmanager
def loras_in(webui: WebUI) -> Iterator[WebUI]:
    """A WebUI with the LoRA ``tiny-xl``."""
    lora.write_sdxl(webui.loras / "tiny-xl.safetensors")
    webui.post("/sdapi/v1/refresh-loras")
    yield webui
    (webui.loras / "tiny-xl.safetensors").unlink()
    webui.post("/sdapi/v1/refresh-loras")


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


def same_rows(webui: WebUI, found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    """Whether latents that Ditail gave the UNet are those that a sampler gave it.

    Bit for bit in the WebUI. Hosts with model patchers scale what they are given, and that scale is taken back before.
    """
    limit = 0.0 if webui.host == "webui" else 1e-6
    return all(relative(one, other) <= limit for one, other in zip(found, expected, strict=True))
