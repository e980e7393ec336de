"""Routes of Ditail's own: what the arguments are, and the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import __version__
from ...settings import TABLE, Setting
from ..cache import memory as cache
from ..request.arguments import ARGUMENTS
from ..request.pictures import PICTURE
from ..request.presets import preset_names, preset_values
from .controls import LISTS, PICTURES

_HOST_ROUTE = "/sdapi/v1/options"

_TYPES = {float: "number", int: "integer", bool: "boolean", str: "string"}


def add_routes(_demo: Any, app: Any) -> None:
    """Add the routes; for ``on_app_started``. Without ``--api`` the WebUI has no API, and Ditail adds none."""
    guards = _host_guards(app)
    if guards is None:
        return
    for path, endpoint, method in (
        ("/ditail/v1/schema", schema, "GET"),
        ("/ditail/v1/cache", cache_state, "GET"),
        ("/ditail/v1/cache/clear", clear_cache, "POST"),
    ):
        app.add_api_route(path, endpoint, methods=[method], dependencies=guards)


def schema() -> dict[str, Any]:
    """The script's arguments by name, with the values that are allowed now; positions may change, names do not."""
    arguments = [_describe(name) for name in ARGUMENTS]
    presets = {name: preset_values(name) for name in preset_names()}
    return {"script": TABLE["enabled"].label, "version": __version__, "arguments": arguments, "presets": presets}


def cache_state() -> dict[str, int]:
    """How many inversions and models are cached, and the memory they take. The caches guard themselves: no queue."""
    kept = cache.trajectories
    features = cache.features
    sizes = {"feature_bytes": features.nbytes, "feature_bytes_in_ram": features.host_nbytes}
    waiting = {"models": len(cache.models), "model_bytes": cache.models.nbytes}
    return {"inversions": len(kept), "bytes": kept.nbytes, **sizes, **waiting}


def clear_cache() -> dict[str, int]:
    """Forget the kept inversions and features."""
    cache.clear()
    return cache_state()


def _host_guards(app: Any) -> Sequence[Any] | None:
    """What the WebUI's own routes demand first (a password, with ``--api-auth``); ``None`` if it has none."""
    for route in app.routes:
        if getattr(route, "path", None) == _HOST_ROUTE:
            return list(route.dependencies)
    return None


def _describe(name: str) -> dict[str, Any]:
    if name in PICTURES:
        label, help_text = PICTURES[name]
        described: dict[str, Any] = {"name": name, "type": "string", "format": "base64", "default": None}
        described |= {"label": label, "help": help_text}
        return described | ({"only": "txt2img"} if name == PICTURE else {})
    setting = TABLE[name]
    row = {
        "name": name,
        "type": _TYPES[setting.kind],
        "default": setting.default,
        "label": setting.label,
        "help": setting.help,
        "infotext": setting.infotext,
        "minimum": setting.minimum,
        "maximum": setting.maximum,
        "step": setting.step,
        "choices": _choices(setting),
    }
    return {key: value for key, value in row.items() if value is not None}


def _choices(setting: Setting) -> list[str] | None:
    if setting.name in LISTS:
        return LISTS[setting.name]()
    return list(setting.choices) if setting.choices is not None else None
