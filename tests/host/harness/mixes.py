"""Targets between two checkpoints: asking for them, making them by hand, telling who computed a call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ditail_ext.core import interpolate
from ditail_ext.standalone.checkpoint import open_checkpoint
from ditail_ext.standalone.model import Model

from .client import Answer
from .probe import Call, Probe, Records
from .reference import COMPUTE, relative
from .server import WebUI

ALPHA, BETA, DELTA = "alpha.safetensors", "beta.safetensors", "delta.safetensors"
PROMPT, TAG = "a red circle", "<lora:tiny:1>"
HALFWAY = "halfway.safetensors"
UNET = "model.diffusion_model."
PLAIN = {"feature_ratio": 0.0, "attention_ratio": 0.0}
"""Nothing is injected: each call's output is the UNet's own."""


def mixed(weight: float, other: str = DELTA, **ditail: Any) -> dict[str, Any]:
    return {"source_checkpoint": BETA, "mix_checkpoint": other, "mix_weight": weight, **ditail}


def ask(
    webui: WebUI, probe: Probe, ditail: dict[str, Any], *, target: str = ALPHA, route: str = "img2img", **request: Any
) -> tuple[Answer, Records]:
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    overrides = {"sd_model_checkpoint": target, **request.pop("override_settings", {})}
    answer = getattr(webui, route)(ditail, override_settings=overrides, **request)
    assert answer.status == 200, answer.body
    return answer, probe.records()


def sample(webui: WebUI, probe: Probe, ditail: dict[str, Any], **request: Any) -> torch.Tensor:
    return torch.as_tensor(ask(webui, probe, ditail, **request)[1].samples[0])


def plain(webui: WebUI, prompt: str = PROMPT, target: str = ALPHA) -> list[bytes]:
    return webui.txt2img(prompt=prompt, override_settings={"sd_model_checkpoint": target}).pixels


def put(webui: WebUI, name: str, tensors: dict[str, torch.Tensor]) -> None:
    """A further checkpoint with alpha's configuration."""
    path = webui.checkpoints / name
    save_file(tensors, path)
    path.with_suffix(".yaml").write_bytes((webui.checkpoints / "alpha.yaml").read_bytes())
    assert webui.post("/sdapi/v1/refresh-checkpoints").status == 200


def merge(webui: WebUI, name: str) -> None:
    """A checkpoint of which the UNet is halfway from alpha to delta, as a merging tool would make it."""
    own, other = (load_file(webui.checkpoints / file) for file in (ALPHA, DELTA))
    put(webui, name, {key: interpolate(own[key], other[key], 0.5 if key.startswith(UNET) else 0.0) for key in own})


class Networks:
    """The UNets of the tests' checkpoints, to ask which of them computed a call."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._unets = {name: self._load(folder, name) for name in names}

    @staticmethod
    def _load(folder: Path, name: str) -> nn.Module:
        unet = Model(open_checkpoint((folder / ALPHA).resolve()), COMPUTE).unet
        path = folder / name
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path)["state_dict"]
        unet.load_state_dict({key[len(UNET) :]: value for key, value in state.items() if key.startswith(UNET)})
        return unet

    @torch.no_grad()
    def of(self, call: Call) -> list[str]:
        inputs = [torch.as_tensor(value) for value in (call.x, call.timesteps, call.context)]
        made = {name: unet(inputs[0], inputs[1], context=inputs[2]) for name, unet in self._unets.items()}
        return [name for name, output in made.items() if relative(output, call.output) < 1e-3]

    def in_order(self, calls: list[Call]) -> list[str]:
        """Who computed them, each once while nobody else takes over."""
        order: list[str] = []
        for call in calls:
            (name,) = self.of(call)
            if order[-1:] != [name]:
                order.append(name)
        return order
