"""The little of gradio and of the WebUI that the panel's side needs, for tests without either."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Control:
    """Stands in for any gradio component: keeps what it was made with."""

    def __init__(self, value: Any = None, **kwargs: Any) -> None:
        self.value = value
        self.clicks: list[dict[str, Any]] = []
        self.events: dict[str, list[dict[str, Any]]] = {}
        vars(self).update(kwargs)

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def click(self, **kwargs: Any) -> None:
        self.clicks.append(kwargs)

    def _event(self, kind: str, more: dict[str, Any]) -> None:
        self.events.setdefault(kind, []).append(more)

    def change(self, **kwargs: Any) -> None:
        self._event("change", kwargs)

    def input(self, **kwargs: Any) -> None:
        self._event("input", kwargs)

    def upload(self, **kwargs: Any) -> None:
        self._event("upload", kwargs)

    def edit(self, **kwargs: Any) -> None:
        self._event("edit", kwargs)

    def extra(self) -> Control:
        return Control()


class PasteField(tuple):
    """As the WebUI's own."""

    def __new__(cls, component: Any, target: Any, *, api: str | None = None) -> PasteField:
        return super().__new__(cls, (component, target))

    def __init__(self, component: Any, target: Any, *, api: str | None = None) -> None:
        self.api = api
        self.component = component
        self.function = target if callable(target) else None


class OptionInfo:
    def __init__(self, default: Any, label: str, component: Any, component_args: Any = None, section: Any = None):
        self.default, self.label, self.component = default, label, component
        self.component_args, self.section = component_args, section

    def info(self, text: str) -> OptionInfo:
        self.help = text
        return self


class Options:
    def __init__(self) -> None:
        self.data_labels: dict[str, OptionInfo] = {}

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.data_labels[key] = info


class AxisOption:
    """As the plot script's own."""

    def __init__(self, label, type, apply, format_value=None, confirm=None, cost=0.0, choices=None, prepare=None):
        self.label, self.type, self.apply, self.confirm = label, type, apply, confirm
        self.cost, self.choices = cost, choices


class Checkpoint:
    def __init__(self, name: str, shorthash: str) -> None:
        self.name, self.shorthash = name, shorthash
        self.title = f"{name} [{shorthash}]"


def checkpoints() -> dict[str, Checkpoint]:
    return {info.title: info for info in (Checkpoint("b.safetensors", "bbbb"), Checkpoint("A.ckpt", "aaaa"))}


@pytest.fixture
def fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``failure`` needs of it."""

    class HTTPException(Exception):  # noqa: N818
        def __init__(self, status_code: int, detail: str) -> None:
            self.status_code, self.detail = status_code, detail

    module = ModuleType("fastapi.exceptions")
    vars(module)["HTTPException"] = HTTPException
    monkeypatch.setitem(sys.modules, "fastapi", ModuleType("fastapi"))
    monkeypatch.setitem(sys.modules, "fastapi.exceptions", module)


@pytest.fixture
def host(fastapi: None) -> Iterator[SimpleNamespace]:
    """Fakes in ``sys.modules``; ``host.load(name)`` imports a module of ``ditail_ext.webui`` against them."""
    before = dict(sys.modules)
    for name in [name for name in sys.modules if name.split(".")[0] in ("gradio", "modules") or _ours(name)]:
        del sys.modules[name]
    parts = _fakes()
    modules = ModuleType("modules")
    for name, content in parts.items():
        module = ModuleType(f"modules.{name}")
        vars(module).update(content)
        setattr(modules, name, module)
        sys.modules[f"modules.{name}"] = module
    sys.modules["modules"] = modules
    sys.modules["gradio"] = _gradio()
    load: Callable[[str], ModuleType] = lambda name: importlib.import_module(f"ditail_ext.webui.{name}")  # noqa: E731

    def fake(**more: dict[str, Any]) -> None:
        """Further modules of the host's, by name."""
        for name, content in more.items():
            module = sys.modules.setdefault(f"modules.{name}", ModuleType(f"modules.{name}"))
            vars(module).update(content)
            setattr(modules, name, module)

    yield SimpleNamespace(load=load, fake=fake, refreshes=parts["ui_common"]["made"], modules=modules)
    for name in [name for name in sys.modules if name not in before]:
        if name.split(".")[0] in ("gradio", "modules") or _ours(name):
            del sys.modules[name]
    sys.modules.update({name: module for name, module in before.items() if _ours(name)})


def _ours(name: str) -> bool:
    return name == "ditail_ext.webui" or name.startswith("ditail_ext.webui.")


def _gradio() -> ModuleType:
    gradio = ModuleType("gradio")
    for kind in (
        "Row",
        "Column",
        "Accordion",
        "HTML",
        "Image",
        "Radio",
        "Slider",
        "Textbox",
        "Dropdown",
        "Button",
        "Checkbox",
        "File",
    ):
        setattr(gradio, kind, type(kind, (Control,), {}))
    gradio.update = lambda **more: {"__type__": "update", **more}
    return gradio


def _fakes() -> dict[str, dict[str, Any]]:
    listed = checkpoints()
    aliases = {alias: info for info in listed.values() for alias in (info.name, info.title, info.shorthash)}
    made: list[tuple[Any, ...]] = []
    plot = SimpleNamespace(AxisOption=AxisOption, axis_options=[AxisOption("Steps", int, None)])
    script = SimpleNamespace(script_class=type("Script", (), {"__module__": "xyz_grid.py"}), module=plot)
    return {
        "sd_models": {
            "checkpoints_list": listed,
            "checkpoint_aliases": aliases,
            "list_models": lambda: None,
            "model_data": SimpleNamespace(sd_model=None, loaded_sd_models=[]),
        },
        "devices": {},
        "sd_hijack": {},
        "sd_vae": {"vae_dict": {"sharp.vae.pt": "/x"}, "refresh_vae_list": lambda: None},
        "infotext_utils": {"PasteField": PasteField},
        "ui_common": {"create_refresh_button": lambda *args: made.append(args), "made": made},
        "ui_components": {"InputAccordion": type("InputAccordion", (Control,), {})},
        "shared": {"OptionInfo": OptionInfo, "opts": Options()},
        "scripts": {"scripts_data": [script]},
        "paths_internal": {"data_path": "/nowhere"},
    }
