"""Presets by name: the shipped ones, and those that a person has saved in this WebUI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modules import paths_internal

from ... import presets

PRESET = "preset"
"""Name of the argument that names a preset; what else a request says counts before it."""


def own_presets() -> presets.PresetFile:
    """The presets saved here; the file lies where the WebUI keeps its data."""
    return presets.PresetFile(Path(paths_internal.data_path) / "ditail-presets.json")


def preset_names() -> list[str]:
    """All names, the shipped ones first."""
    return [*presets.BUILT_IN, *own_presets().read()]


def preset_values(name: str) -> dict[str, Any]:
    """A preset's value of each of its settings.

    Raises:
        SettingsError: there is none of that name, or the file of saved ones holds something else.
    """
    return presets.find(name, {} if name in presets.BUILT_IN else own_presets().read())
