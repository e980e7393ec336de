"""Records every call of the UNet and every load of a checkpoint; breaks them when told to."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import prompt_parser, sd_models, shared
from torch.nn.modules import module as torch_module

from . import seams
from .breaking import BREAKER, exception
from .seams import UNETS, AutoencoderKL, OpenAIWrapper

Array = np.ndarray


@dataclass
class Switches:
    """What goes wrong, and when; see the test's side for the meaning of each."""

    throw_at: int | None = None
    throw: str = "RuntimeError"
    throw_load: str | None = None
    stage: str | None = None
    then: str = "RuntimeError"
    stop_at: int | None = None
    stop: str = "interrupt"
    delay: float = 0.0
    watch: str | None = None
    break_in: str | None = None
    break_at: int = 1
    break_with: str = "RuntimeError"


@dataclass
class Recorder:
    """What happened since the last reset."""

    switches: Switches = field(default_factory=Switches)
    calls: list[dict[str, Any]] = field(default_factory=list)
    samples: list[Array] = field(default_factory=list)
    init_latents: list[Array] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    reuses: list[str] = field(default_factory=list)
    encodes: int = 0
    watched: list[Array] = field(default_factory=list)

    def reset(self, switches: dict[str, Any]) -> None:
        for entry in dataclasses.fields(self):
            setattr(self, entry.name, entry.default_factory() if callable(entry.default_factory) else entry.default)
        self.switches = Switches(**switches)
        watch_layers(self.switches.watch is not None)
        BREAKER.set(self.switches.break_in, self.switches.break_at, self.switches.break_with)

    def report(self) -> bytes:
        """One line of JSON, in which an array is its shape and its place, and the arrays' bytes as float32.

        As text they would take longer than the generation that they were recorded of: a prompt's embeddings are
        given to every call of the UNet. Those are here once.
        """
        names = [entry.name for entry in dataclasses.fields(self) if entry.name != "switches"]
        places: dict[bytes, int] = {}

        def placed(array: Any) -> dict[str, Any]:
            return {"shape": array.shape, "at": places.setdefault(array.tobytes(), sum(map(len, places)))}

        text = json.dumps({name: getattr(self, name) for name in names}, default=placed)
        return text.encode() + b"\n" + b"".join(places)

    def before_unet(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        time.sleep(self.switches.delay)
        call = {"checkpoint": loaded_file(), "x": pack(args[0]), "timesteps": pack(args[1])}
        if isinstance(module, OpenAIWrapper):
            conditions = {"context": pack(args[2].get("crossattn")), "vector": pack(args[2].get("vector"))}
        else:
            conditions = {"context": pack(kwargs.get("context")), "vector": pack(kwargs.get("y"))}
        self.calls.append({**call, **conditions, "output": None, "sampling": _in_sample()})
        self.before_stage("run")
        if len(self.calls) == self.switches.stop_at:
            getattr(shared.state, self.switches.stop)()
        if len(self.calls) == self.switches.throw_at:
            raise exception(self.switches.throw)

    def after_unet(self, output: Any) -> None:
        if self.calls:
            self.calls[-1]["output"] = pack(output)

    def after_layer(self, module: torch.nn.Module, _args: Any, output: Any) -> None:
        if self.switches.watch is not None and module is _of_unet(self.switches.watch):
            self.watched.append(pack(output))

    def before_stage(self, stage: str) -> None:
        """Let the stage that the switch names fail, or be stopped, the first time that it begins."""
        if self.switches.stage != stage or _in_sample():
            return
        self.switches.stage = None
        if self.switches.then in ("interrupt", "skip", "stop_generating"):
            getattr(shared.state, self.switches.then)()
        else:
            raise exception(self.switches.then)

    def before_load(self, file: str) -> None:
        self.loads.append(file)
        self.before_stage("load")
        if file == self.switches.throw_load:
            self.switches.throw_load = None
            raise exception(self.switches.throw)


RECORDER = Recorder()


def pack(tensor: torch.Tensor | list[torch.Tensor] | None) -> Array | None:
    """The values as they are now: samplers change theirs in place."""
    if tensor is None:
        return None
    if isinstance(tensor, list):  # pictures that the host has decoded already
        tensor = torch.stack(tensor)
    return tensor.detach().float().cpu().numpy().copy()  # what is recorded is no tensor that somebody holds


def loaded_file() -> str:
    model = seams.loaded()
    return Path(model.sd_checkpoint_info.filename).name if model is not None else ""


def _of_unet(name: str) -> torch.nn.Module | None:
    """A module of the loaded UNet by its path."""
    model = seams.loaded()
    return None if model is None else seams.unet(model).get_submodule(name)


def _in_sample() -> bool:
    return _is_called_by("sample", "processing.py")


def _is_called_by(function: str, file: str) -> bool:
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == function and frame.f_code.co_filename.endswith(file):
            return True
        frame = frame.f_back
    return False


def _kind_of_move() -> str:
    """The host's loader moves a new model to the device while it builds it; later moves are moves."""
    return "build" if _is_called_by("load_model", "sd_models.py") else "move"


def install() -> None:
    """Watch, once in the life of this module; not by hooks on modules, which would show in the state."""
    for kind in UNETS:
        _around(kind)
    seams.watch_loads(_before, RECORDER.before_load)
    _before(AutoencoderKL, "encode", lambda *_, **__: setattr(RECORDER, "encodes", RECORDER.encodes + 1))
    _before(AutoencoderKL, "encode", lambda *_, **__: RECORDER.before_stage("encode"))
    _before(AutoencoderKL, "decode", lambda *_, **__: RECORDER.before_stage("decode"))
    _before(prompt_parser, "get_learned_conditioning", lambda *_, **__: RECORDER.before_stage("prompts"))
    _before(sd_models, "send_model_to_device", lambda *_, **__: RECORDER.before_stage(_kind_of_move()))
    reload_model = sd_models.reload_model_weights

    @functools.wraps(reload_model)
    def watched(*args: Any, **kwargs: Any) -> Any:
        before, loads = loaded_file(), len(RECORDER.loads)
        result = reload_model(*args, **kwargs)
        if loaded_file() != before and len(RECORDER.loads) == loads:
            RECORDER.reuses.append(loaded_file())
        return result

    sd_models.reload_model_weights = watched


_LAYERS: list[Any] = []
"""The handle of the hook on all modules, while there is one."""


def watch_layers(on: bool) -> None:
    """One hook on all modules, only where a layer is watched: it makes each module's call a tenth slower."""
    if on and not _LAYERS:
        _LAYERS.append(torch_module.register_module_forward_hook(RECORDER.after_layer))
    elif not on and _LAYERS:
        _LAYERS.pop().remove()


def _around(kind: type[torch.nn.Module]) -> None:
    """Watch the calls of a class of UNets: whoever calls one asks its class for how."""
    original = kind.__call__

    def watched(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        RECORDER.before_unet(module, args, kwargs)
        output = original(module, *args, **kwargs)
        RECORDER.after_unet(output)
        return output

    kind.__call__ = watched


def _before(owner: Any, name: str, action: Callable[..., None]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def watched(*args: Any, **kwargs: Any) -> Any:
        action(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, watched)


install()
