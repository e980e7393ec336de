"""A picture's parameters back into the panel: the reading half of the infotext; ``notes`` writes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from modules import sd_models

from ...settings import CHECKPOINTS, TABLE, Setting


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
