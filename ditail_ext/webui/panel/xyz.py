"""Axes for the X/Y/Z plot, one for each setting of the table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from modules import scripts

from ...errors import SettingsError
from ...settings import AGGREGATE, SAME_AS_TARGET, TABLE, Setting
from ..request.arguments import OVERRIDES
from ..request.presets import preset_names, preset_values
from .controls import LISTS

logger = logging.getLogger("ditail")

PRESET_AXIS = "[Ditail] Preset"

_ON = {"enabled": True}
"""Who plots a setting of Ditail's wants Ditail, unless another axis says otherwise."""

_COSTS = {"source_checkpoint": 0.9, "source_vae": 0.7, "mix_checkpoint": 0.5, **dict.fromkeys(AGGREGATE, 0.6)}
"""How slow a change is: the slowest axis becomes the outermost loop, as the host has it for its own.

A little less than the host's checkpoint axis, whose cost is 1: inversions are kept, so with the target outermost each
target is loaded once, and each source once.
"""


def add_axes() -> None:
    """Add the axes to the host's plot script; for ``on_before_ui``."""
    plot = next((data.module for data in scripts.scripts_data if data.script_class.__module__ == "xyz_grid.py"), None)
    if plot is None:
        logger.info("there is no X/Y/Z plot script; Ditail's axes are left out")
        return
    present = {option.label for option in plot.axis_options}
    for setting in TABLE.values():
        if axis_label(setting) not in present:
            plot.axis_options.append(_axis(plot, setting))
    if PRESET_AXIS not in present:
        plot.axis_options.append(
            plot.AxisOption(PRESET_AXIS, str, _apply_preset, confirm=_confirm_presets, choices=preset_names)
        )


def axis_label(setting: Setting) -> str:
    """What the plot's menu and legend call a setting."""
    return "[Ditail] Enabled" if setting.name == "enabled" else f"[Ditail] {setting.label}"


def _axis(plot: Any, setting: Setting) -> Any:
    return plot.AxisOption(
        axis_label(setting),
        _truth if setting.kind is bool else setting.kind,
        _apply(setting.name),
        confirm=_confirm(setting),
        cost=_COSTS.get(setting.name, 0.0),
        choices=_choices(setting),
    )


def _apply(name: str) -> Callable[[Any, object, Sequence[object]], None]:
    def apply(p: Any, value: object, _values: Sequence[object]) -> None:
        # The cells' p are shallow copies of one: make a new dict, do not change the shared one.
        setattr(p, OVERRIDES, {**_ON, **getattr(p, OVERRIDES, {}), name: value})

    return apply


def _apply_preset(p: Any, name: str, _values: Sequence[object]) -> None:
    # What another axis says counts before it, whichever of them the host applies first.
    setattr(p, OVERRIDES, {**_ON, **preset_values(name), **getattr(p, OVERRIDES, {})})


def _confirm_presets(p: Any, names: Sequence[str]) -> None:
    for name in names:
        preset_values(name)


def _confirm(setting: Setting) -> Callable[[Any, Sequence[object]], None]:
    """Check all values before the first picture: while plotting, the host leaves failed cells empty."""

    def confirm(_p: Any, values: Sequence[object]) -> None:
        for value in values:
            setting.check(value)
            if setting.name in LISTS and value not in LISTS[setting.name]():
                raise SettingsError(setting.name, f"{setting.name}: there is none named '{value}'; choose one listed.")

    return confirm


def _choices(setting: Setting) -> Callable[[], list[str]] | None:
    if setting.name == "source_checkpoint":  # the target is among the files; listed twice, Fill would plot it twice
        return lambda: [name for name in LISTS["source_checkpoint"]() if name != SAME_AS_TARGET]
    if setting.name in LISTS:
        return LISTS[setting.name]
    if setting.kind is bool:
        return lambda: ["True", "False"]
    if setting.choices is not None:
        return lambda: list(setting.choices or ())
    return None


def _truth(text: object) -> bool:
    return str(text).strip().lower() in ("true", "1", "yes")
