"""Settings into a picture's parameters, and back into the panel."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from modules import sd_models

from .. import __version__
from ..settings import CHECKPOINTS, TABLE, Setting, Settings


def parameters(settings: Settings, *, without: Collection[str] = (), **facts: object) -> dict[str, object]:
    """What an enabled request adds to ``p.extra_generation_params``; nothing for a disabled one.

    Numbers are always written, so that pictures can be made again after a default has changed; texts and choices,
    and numbers whose default does nothing, where they differ from the default.

    Args:
        settings: the request's.
        without: settings that mean nothing in this request; they are not written.
        facts: by a setting's name, what is to be shown in place of its value (``source_checkpoint="name [hash]"``);
            by any other name, what else is worth knowing (``start="..."`` becomes "Ditail start"). None is left out.
    """
    if not settings.enabled:
        return {}
    shown = {name: value for name, value in facts.items() if value is not None}
    written = {}
    for name, setting in TABLE.items():
        if name in without:
            continue
        value = shown.pop(name, getattr(settings, name))
        always = (setting.kind is float and not setting.neutral) or name in ("enabled", "source_checkpoint")
        if always or value != setting.default:
            written[setting.infotext] = _protect(value)
    written |= {f"Ditail {name.replace('_', ' ')}": _protect(value) for name, value in shown.items()}
    return {**written, "Ditail version": __version__}


def without_ours(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters without Ditail's: scripts and the Batch tab use a request again, and its notes may not hold then."""
    return {key: value for key, value in parameters.items() if key != "Ditail" and not key.startswith("Ditail ")}


def source_title(info: Any) -> str:
    """A checkpoint as the infotext names it: file name and hash."""
    shorthash = getattr(info, "shorthash", None) or info.calculate_shorthash()
    return f"{info.name} [{shorthash}]" if shorthash else str(info.name)


def paste(setting: Setting) -> Callable[[Mapping[str, Any]], Any]:
    """A function from the parameters read out of an infotext to a control's value.

    Without Ditail in the infotext, Ditail is switched off and all else stays; with it, what is not written is set to
    its default.
    """
    enabled = TABLE["enabled"].infotext

    def value(params: Mapping[str, Any]) -> Any:
        if setting.name == "enabled":
            return params.get(enabled) == "True"
        if enabled not in params:
            return None
        text = _text(params, setting.infotext)
        return setting.default if text is None else _read(setting, text)

    return value


def _protect(value: object) -> object:
    """The host quotes some texts and strips quotes and blanks off all: quote what it would damage."""
    damaged = isinstance(value, str) and (value.startswith('"') or value != value.strip())
    if damaged and not any(mark in str(value) for mark in ",:\n"):
        return json.dumps(value, ensure_ascii=False)
    return value


def _text(params: Mapping[str, Any], key: str) -> str | None:
    if key in params:
        return str(params[key])
    if f"{key}-1" in params:
        return f"{params[f'{key}-1']}x{params[f'{key}-2']}"
    return None


def _read(setting: Setting, text: str) -> Any:
    if setting.name in CHECKPOINTS:
        return _checkpoint(text)
    if setting.kind is bool:
        return text == "True"
    if setting.kind in (int, float):
        return setting.kind(float(text))
    return text


def _checkpoint(text: str) -> str:
    """The file name of a checkpoint here with that name and hash, or that hash; otherwise the text as it stands.

    What is not here is refused by its name when the picture is made.
    """
    hashed = re.search(r"\[([0-9a-f]+)\]$", text)
    info = sd_models.checkpoint_aliases.get(text) or (hashed and sd_models.checkpoint_aliases.get(hashed.group(1)))
    return str(info.name) if info else text
