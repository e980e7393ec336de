"""Records every call of the UNet and every load of a checkpoint; breaks them when told to."""

from __future__ import annotations

import base64
import dataclasses
import functools
import inspect
import io
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
from .seams import UNETS, AutoencoderKL, OpenAIWrapper, UNetModel


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
    samples: list[str] = field(default_factory=list)
    init_latents: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    reuses: list[str] = field(default_factory=list)
    encodes: int = 0
    watched: list[str] = field(default_factory=list)

    def reset(self, switches: dict[str, Any]) -> None:
        for entry in dataclasses.fields(self):
            setattr(self, entry.name, entry.default_factory() if callable(entry.default_factory) else entry.default)
        self.switches = Switches(**switches)
        BREAKER.set(self.switches.break_in, self.switches.break_at, self.switches.break_with)

    def report(self) -> dict[str, Any]:
        names = [entry.name for entry in dataclasses.fields(self) if entry.name != "switches"]
        return {name: getattr(self, name) for name in names}

    def before_unet(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if not isinstance(module, UNETS):
            return
        time.sleep(self.switches.delay)
        call = {"checkpoint": loaded_file(), "x": pack(args[0]), "timesteps": pack(args[1])}
        given = args[2] if isinstance(module, OpenAIWrapper) else {}
        conditions = {"context": pack(given.get("crossattn")), "vector": pack(given.get("vector"))}
        self.calls.append({**call, **conditions, "output": None, "sampling": _in_sample()})
        self.before_stage("run")
        if len(self.calls) == self.switches.stop_at:
            getattr(shared.state, self.switches.stop)()
        if len(self.calls) == self.switches.throw_at:
            raise exception(self.switches.throw)

    def after_unet(self, module: torch.nn.Module, _args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if self.switches.watch is not None and module is _of_unet(self.switches.watch):
            self.watched.append(pack(output))
        if isinstance(module, UNETS) and self.calls:
            self.calls[-1]["output"] = pack(output)
        if isinstance(module, UNetModel) and self.calls:
            self.calls[-1]["context"] = pack(kwargs.get("context"))

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


def pack(tensor: torch.Tensor | list[torch.Tensor] | None) -> str | None:
    if tensor is None:
        return None
    if isinstance(tensor, list):  # pictures that the host has decoded already
        tensor = torch.stack(tensor)
    buffer = io.BytesIO()
    np.save(buffer, tensor.detach().float().cpu().numpy())
    return base64.b64encode(buffer.getvalue()).decode("ascii")


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
    torch_module.register_module_forward_pre_hook(RECORDER.before_unet)
    _after_every_module(RECORDER.after_unet)
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


def _after_every_module(action: Callable[..., None]) -> None:
    """Call with (module, args, kwargs, output); torch 2.1 tells no kwargs, so contexts are not known there."""
    register = torch_module.register_module_forward_hook
    if "with_kwargs" in inspect.signature(register).parameters:
        register(action, with_kwargs=True)
    else:
        register(lambda module, args, output: action(module, args, {}, output))


def _before(owner: Any, name: str, action: Callable[..., None]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def watched(*args: Any, **kwargs: Any) -> Any:
        action(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, watched)


install()
