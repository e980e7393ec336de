"""Presets: named values for the settings that say how Ditail works, and nothing about which picture or checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import SettingsError
from .setting import shown
from .settings import TABLE

PRESET_SETTINGS = (
    *("positive_scale", "negative_scale", "feature_ratio", "attention_ratio", "inversion_rule", "refinements"),
    *("layer_profile", "record_every", "feature_start", "attention_start", "feature_weight", "attention_weight"),
)
"""What a preset sets; each of these that it does not name gets its default."""

Values = Mapping[str, Any]

BUILT_IN: Mapping[str, Values] = {
    "balanced": {},
    "more structure": {"positive_scale": 4.0, "feature_ratio": 1.0, "attention_ratio": 0.8, "layer_profile": "strong"},
    "more style": {"positive_scale": 2.0, "feature_ratio": 0.5, "attention_ratio": 0.3},
    "edit by prompt": {"positive_scale": 1.0, "negative_scale": 0.0, "inversion_rule": "warm start"},
    "generated content": {"layer_profile": "full", "feature_ratio": 0.6, "attention_ratio": 0.6},
}
"""The shipped presets, by name."""

_KIND = "ditail presets"
_LONGEST = 60


def whole(values: Values) -> dict[str, Any]:
    """A preset's value of each of its settings.

    Raises:
        SettingsError: it names something else, or a value is wrong.
    """
    for name in values:
        if name not in PRESET_SETTINGS:
            raise SettingsError("preset", f"preset: {shown(str(name))} is no setting of a preset.")
    return {name: TABLE[name].check(values.get(name, TABLE[name].default)) for name in PRESET_SETTINGS}


def short(values: Values) -> dict[str, Any]:
    """The same preset without what is at its default."""
    return {name: value for name, value in whole(values).items() if value != TABLE[name].default}


class PresetFile:
    """A person's own presets, in a file that can be given to others."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Values]:
        """The presets in the file, by name; none where there is no file.

        Raises:
            SettingsError: the file holds something else.
        """
        if not self._path.is_file():
            return {}
        return parse(self._path.read_text(encoding="utf-8"), self._path.name)

    def save(self, name: str, values: Values) -> None:
        """Add a preset, or replace the one of that name.

        Raises:
            SettingsError: the name is empty, too long or a shipped one's.
        """
        self._write({**self.read(), check_name(name): short(values)})

    def remove(self, name: str) -> None:
        """Take a preset out.

        Raises:
            SettingsError: there is none of that name, or it is a shipped one.
        """
        own = self.read()
        if name not in own:
            raise SettingsError("preset", f"preset: {shown(name)} is not one of your own; those can be removed.")
        self._write({key: values for key, values in own.items() if key != name})

    def add(self, text: str) -> list[str]:
        """Add somebody else's file; gives the names.

        Raises:
            SettingsError: it is no such file.
        """
        given = parse(text, "the file")
        self._write({**self.read(), **{check_name(name): short(values) for name, values in given.items()}})
        return list(given)

    def ready(self) -> Path:
        """The file to give to others, which is there afterwards."""
        if not self._path.is_file():
            self._write({})
        return self._path

    def _write(self, presets: Mapping[str, Values]) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(written(presets), encoding="utf-8")
        new.replace(self._path)


def parse(text: str, called: str) -> dict[str, Values]:
    """Presets in a file's text.

    Raises:
        SettingsError: it holds something else, or a value is wrong.
    """
    try:
        held = json.loads(text)
    except ValueError as error:
        raise SettingsError("preset", f"preset: {called} is no JSON ({error}).") from error
    presets = held.get(_KIND) if isinstance(held, dict) else None
    if not isinstance(presets, dict) or not all(isinstance(values, dict) for values in presets.values()):
        raise SettingsError("preset", f'preset: {called} holds no presets ({{"{_KIND}": {{name: {{...}}}}}}).')
    return {str(name): short(values) for name, values in presets.items()}


def written(presets: Mapping[str, Values]) -> str:
    """Presets as a file's text."""
    return json.dumps({_KIND: presets}, indent=2, ensure_ascii=False) + "\n"


def check_name(name: str) -> str:
    """A name for a preset of one's own, without blanks around it.

    Raises:
        SettingsError: it is empty, too long or a shipped one's.
    """
    name = name.strip()
    if not name or len(name) > _LONGEST or "\n" in name:
        raise SettingsError("preset", f"preset: give a name of 1 to {_LONGEST} letters on one line.")
    if name in BUILT_IN:
        raise SettingsError("preset", f"preset: '{name}' is a shipped preset; choose another name.")
    return name


def find(name: str, own: Mapping[str, Values]) -> dict[str, Any]:
    """The values of a preset by its name.

    Raises:
        SettingsError: there is none of that name.
    """
    known = {**own, **BUILT_IN}
    if name not in known:
        raise SettingsError("preset", f"preset: there is none named {shown(name)}; choose one of {', '.join(known)}.")
    return whole(known[name])
