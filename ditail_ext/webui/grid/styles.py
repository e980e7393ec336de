"""The styles of a grid: checkpoints, and LoRAs on the checkpoint that is selected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import CheckpointError, SettingsError
from ...setting import shown
from ..host import networks
from ..host.checkpoints import check_file
from ..host.installed import find_checkpoint

ARGUMENTS = ("checkpoints", "loras")
"""Names of the grid's arguments by position."""


@dataclass(frozen=True)
class Style:
    """One row and one column of a grid.

    Attributes:
        info: the checkpoint, as the host knows it.
        label: for people.
        tag: the prompt's tag of a LoRA; empty without one.
    """

    info: Any
    label: str
    tag: str = ""


def named_arguments(args: Sequence[object]) -> tuple[list[str], list[str]]:
    """The checkpoints and LoRAs in the script's arguments: by position, or in one dict by name as the first.

    Raises:
        SettingsError: a name is unknown or a value is of the wrong type.
    """
    values = dict(zip(ARGUMENTS, args, strict=False))
    first = values.get("checkpoints")
    if isinstance(first, Mapping):
        unknown = [str(name) for name in first if name not in ARGUMENTS]
        if unknown:
            known = " and ".join(ARGUMENTS)
            raise SettingsError(unknown[0], f"The grid has no argument {shown(unknown[0])}; there are {known}.")
        values = dict(first)
    loras = values.get("loras")
    if isinstance(loras, str):
        loras = loras.replace("\n", ",").split(",")
    return _texts("checkpoints", values.get("checkpoints")), _texts("loras", loras)


def _texts(name: str, value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(text, str) for text in value):
        raise SettingsError(name, f"{name} must be a list of names, not {shown(value)}.")
    return [text.strip() for text in value if text.strip()]


def read_styles(checkpoints: Sequence[str], loras: Sequence[str], selected: Any) -> list[Style]:
    """The styles of a grid, all of them checked, with no checkpoint loaded.

    Args:
        checkpoints: names, as in the WebUI's list.
        loras: ``name`` or ``name:weight``, each a style on the selected checkpoint.
        selected: the host's ``CheckpointInfo`` of that.

    Raises:
        DitailError: there are fewer than two styles, or one of them cannot be used.
    """
    infos = [find_checkpoint(name, "checkpoints") for name in checkpoints]
    names = labels([*infos, selected])
    styles = [Style(info, names[info.filename]) for info in infos]
    for text in loras:
        name, weight = _lora(text)
        styles.append(Style(selected, f"{names[selected.filename]} + {name}:{weight:g}", f"<lora:{name}:{weight:g}>"))
    if len(styles) < 2:
        raise SettingsError("checkpoints", "A Ditail grid needs at least two checkpoints or LoRAs; choose more.")
    _check_distinct(styles)
    _check_files(styles)
    return styles


def labels(infos: Sequence[Any]) -> dict[str, str]:
    """For people, by file: a checkpoint's name without its ending, unless another one has the same."""
    known = {info.filename: info for info in infos}
    stems = [info.name_for_extra for info in known.values()]
    return {
        file: info.name if stems.count(info.name_for_extra) > 1 else info.name_for_extra
        for file, info in known.items()
    }


def _lora(text: str) -> tuple[str, float]:
    name, colon, number = text.rpartition(":")
    name, number = (name.strip(), number.strip()) if colon else (text, "1")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise SettingsError("loras", f"loras: '{text}' has no number after the colon; write name:weight.")
    if name not in networks.known_loras():
        raise SettingsError("loras", f"loras: there is no LoRA named '{name}'; write a name of the Lora tab.")
    return name, weight


def _check_distinct(styles: Sequence[Style]) -> None:
    seen = set()
    for style in styles:
        if (style.info.filename, style.tag) in seen:
            raise SettingsError("checkpoints", f"'{style.label}' is chosen twice for the Ditail grid; choose it once.")
        seen.add((style.info.filename, style.tag))


def _check_files(styles: Sequence[Style]) -> None:
    """Every style is a source and a target, so all must be what a source can be, and of one family."""
    facts = {style.label: check_file(style.info) for style in styles}
    sdxl = [label for label, fact in facts.items() if fact.is_sdxl]
    others = [label for label, fact in facts.items() if fact.is_sdxl is False]
    if sdxl and others:
        raise CheckpointError(
            f"checkpoints: '{sdxl[0]}' is SDXL and '{others[0]}' is not; choose checkpoints of one family."
        )
