"""One table of settings, and values that are checked against it."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ditail_ext.errors import DitailError, SettingsError
from ditail_ext.settings import TABLE, Setting, Settings

NUMBERS = [setting for setting in TABLE.values() if setting.kind in (int, float)]


def wrong(name, value):
    with pytest.raises(SettingsError) as caught:
        Settings(**{name: value})
    assert caught.value.field == name
    assert name in str(caught.value)
    assert str(caught.value).endswith(".")
    assert isinstance(caught.value, DitailError)


def test_table_and_fields_are_the_same():
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    assert list(TABLE) == list(fields)
    types = {"float": float, "int": int, "bool": bool, "str": str}
    for name, setting in TABLE.items():
        assert setting.name == name
        assert setting.default == fields[name].default
        assert types[fields[name].type] is setting.kind
        assert set(fields[name].metadata) <= {field.name for field in dataclasses.fields(Setting)}


def test_labels_and_infotext_keys_are_unique_and_helps_are_sentences():
    for attribute in ("label", "infotext", "help"):
        texts = [getattr(setting, attribute) for setting in TABLE.values()]
        assert len(set(texts)) == len(texts)
        assert all(text == text.strip() and text for text in texts)
    assert all(setting.help.endswith(".") for setting in TABLE.values())
    for setting in TABLE.values():
        assert setting.infotext.startswith("Ditail")
        assert not set(setting.infotext) & set(',:"\n'), "would break the parameters text"
        assert setting.name.isascii(), "Greek letters are for labels only"
        assert setting.infotext.isascii()


def test_the_paper_s_defaults():
    settings = Settings()
    assert (settings.positive_scale, settings.negative_scale) == (3.0, 0.5)
    assert (settings.feature_ratio, settings.attention_ratio) == (0.8, 0.5)
    assert (settings.inversion_rule, settings.refinements, settings.layer_profile) == ("authors", 0, "default")
    assert not settings.enabled


@pytest.mark.parametrize("setting", TABLE.values(), ids=TABLE)
def test_defaults_are_allowed(setting):
    value = setting.check(setting.default)
    assert value == setting.default
    assert type(value) is setting.kind


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.name)
def test_numbers_have_ranges_that_the_slider_can_reach(setting):
    assert setting.minimum < setting.maximum
    assert setting.step > 0
    steps = (setting.maximum - setting.minimum) / setting.step
    assert steps == pytest.approx(round(steps))
    to_default = (setting.default - setting.minimum) / setting.step
    assert to_default == pytest.approx(round(to_default))


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.name)
def test_the_ends_of_a_range_are_allowed_and_what_lies_beyond_is_not(setting):
    for end in (setting.minimum, setting.maximum):
        assert getattr(Settings(**{setting.name: setting.kind(end)}), setting.name) == end
    for beyond in (setting.minimum - setting.step, setting.maximum + setting.step):
        wrong(setting.name, setting.kind(beyond))


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.name)
@pytest.mark.parametrize("value", [True, False, math.nan, math.inf, -math.inf, "3", "", None, [1], 1j])
def test_what_is_no_number(setting, value):
    wrong(setting.name, value)


@given(st.floats(0, 1))
def test_any_ratio_within_the_range_is_kept_as_it_is(ratio):
    assert Settings(feature_ratio=ratio).feature_ratio == ratio


def test_a_whole_number_is_accepted_as_a_number_but_not_the_other_way_round():
    value = Settings(positive_scale=4).positive_scale
    assert value == 4.0
    assert type(value) is float
    wrong("refinements", 1.0)


def test_other_kinds():
    wrong("enabled", 1)
    wrong("enabled", "true")
    wrong("source_checkpoint", None)
    wrong("inversion_prompt", 3)
    wrong("inversion_prompt", b"text")
    assert Settings(enabled=True, inversion_prompt="").enabled


@pytest.mark.parametrize("setting", [s for s in TABLE.values() if s.choices], ids=lambda setting: setting.name)
def test_choices(setting):
    assert setting.default in setting.choices
    for choice in setting.choices:
        assert getattr(Settings(**{setting.name: choice}), setting.name) == choice
    for other in ("", setting.default.upper(), setting.default + " "):
        wrong(setting.name, other)
    with pytest.raises(SettingsError, match=setting.choices[-1]):
        Settings(**{setting.name: "another"})


def test_core_knows_every_choice():
    from ditail_ext.core import PROFILE_NAMES, InversionRule

    assert TABLE["inversion_rule"].choices == tuple(rule.value for rule in InversionRule)
    assert TABLE["layer_profile"].choices == PROFILE_NAMES


def test_from_mapping():
    assert Settings.from_mapping({}) == Settings()
    given_values = {"positive_scale": 2, "layer_profile": "strong"}
    assert Settings.from_mapping(given_values) == Settings(positive_scale=2.0, layer_profile="strong")
    with pytest.raises(SettingsError):
        Settings.from_mapping({"positive_scale": "2"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [("positive_scal", "positive_scale"), ("Refinements", "refinements"), ("atention_ratio", "attention")],
)
def test_unknown_names_get_a_suggestion(name, hint):
    with pytest.raises(SettingsError, match=f"did you mean {hint}") as caught:
        Settings.from_mapping({name: 1})
    assert caught.value.field == name


@pytest.mark.parametrize("name", ["zzz", "", 3])
def test_unknown_names_that_resemble_nothing_get_the_list(name):
    with pytest.raises(SettingsError, match="there are enabled, source_checkpoint") as caught:
        Settings.from_mapping({name: 1})
    assert caught.value.field == str(name)


def test_changed():
    assert Settings().changed() == {}
    assert Settings(refinements=2, positive_scale=3).changed() == {"refinements": 2}


def test_frozen():
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.positive_scale = 4.0
    with pytest.raises(SettingsError):
        dataclasses.replace(settings, positive_scale=11.0)
    assert {settings, Settings()} == {settings}


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_numbers_beyond_floats_are_refused(value):
    with pytest.raises(SettingsError, match="positive_scale must be"):
        Settings.from_mapping({"positive_scale": value})
