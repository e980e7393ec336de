"""Presets: what the shipped ones set, and a person's own in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ditail_ext.errors import SettingsError
from ditail_ext.presets import BUILT_IN, PRESET_SETTINGS, PresetFile, find, whole
from ditail_ext.settings import TABLE, Settings


@pytest.fixture
def file(tmp_path: Path) -> PresetFile:
    return PresetFile(tmp_path / "presets.json")


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_preset_sets_all_of_its_settings_to_values_that_are_allowed(name: str):
    values = find(name, {})
    assert tuple(values) == PRESET_SETTINGS
    Settings.from_mapping(values)


def test_balanced_is_the_defaults():
    assert find("balanced", {}) == {name: TABLE[name].default for name in PRESET_SETTINGS}


def test_presets_differ_in_the_direction_of_their_names():
    balanced, structure, style = (find(name, {}) for name in ("balanced", "more structure", "more style"))
    for knob in ("positive_scale", "feature_ratio", "attention_ratio"):
        assert style[knob] < balanced[knob] < structure[knob]
    generated = find("generated content", {})
    assert (generated["layer_profile"], generated["feature_ratio"], generated["attention_ratio"]) == ("full", 0.6, 0.6)


def test_no_preset_is_about_a_picture_or_a_checkpoint():
    about = {"enabled", "source_checkpoint", "source_vae", "inversion_prompt", "region", "content", "mix_checkpoint"}
    assert not about & set(PRESET_SETTINGS)


def test_saved_read_and_removed(file: PresetFile, tmp_path: Path):
    assert file.read() == {}
    file.save(" mine ", whole({"positive_scale": 5.0}))
    file.save("other", whole({}))
    assert PresetFile(tmp_path / "presets.json").read() == {"mine": {"positive_scale": 5.0}, "other": {}}
    assert find("mine", file.read())["positive_scale"] == 5.0
    file.remove("mine")
    assert file.read() == {"other": {}}
    assert [path.name for path in tmp_path.iterdir()] == ["presets.json"]


def test_shared_as_a_file(file: PresetFile, tmp_path: Path):
    file.save("müde ✓", whole({"refinements": 2}))
    other = PresetFile(tmp_path / "somebody.json")
    other.save("theirs", whole({}))
    assert other.add(file.ready().read_text("utf-8")) == ["müde ✓"]
    assert other.read() == {"theirs": {}, "müde ✓": {"refinements": 2}}


def test_there_is_a_file_to_give_even_with_nothing_saved(file: PresetFile, tmp_path: Path):
    assert PresetFile(file.ready()).read() == {}


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\nb", "balanced"])
def test_names_that_are_refused(file: PresetFile, name: str):
    with pytest.raises(SettingsError, match="preset:"):
        file.save(name, {})
    assert file.read() == {}


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"ditail presets": []}', '{"ditail presets": {"a": 1}}'),
        *(
            json.dumps({"ditail presets": {"a": values}})
            for values in ({"positive_scale": 11}, {"source_checkpoint": "x"}, {"x": 1}, {"refinements": 1.5})
        ),
    ],
)
def test_a_file_that_holds_something_else_changes_nothing(file: PresetFile, text: str):
    file.save("mine", {})
    with pytest.raises(SettingsError):
        file.add(text)
    assert file.read() == {"mine": {}}


def test_only_ones_own_are_removed(file: PresetFile):
    for name in ("balanced", "nothing"):
        with pytest.raises(SettingsError, match="not one of your own"):
            file.remove(name)


def test_a_preset_that_is_not_there_names_those_that_are():
    with pytest.raises(SettingsError, match="more style"):
        find("more styl", {})
