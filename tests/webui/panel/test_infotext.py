"""Settings to a picture's parameters and back."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ditail_ext.settings import AGGREGATE, TABLE, Settings

# As the host writes and reads them (modules/infotext_utils.py and processing.py of release 1.10.1).
PARAM = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SIZE = re.compile(r"^(\d+)x(\d+)$")


def host_writes(params: dict[str, object]) -> str:
    def quote(value: object) -> object:
        plain = all(mark not in str(value) for mark in ",\n:")
        return value if plain else json.dumps(value, ensure_ascii=False)

    return ", ".join(f"{key}: {quote(value)}" for key, value in params.items())


def host_reads(line: str) -> dict[str, str]:
    result = {}
    for key, value in PARAM.findall(line):
        if value and value[0] == '"' and value[-1] == '"':
            value = json.loads(value)
        size = SIZE.match(value)
        result |= {f"{key}-1": size[1], f"{key}-2": size[2]} if size else {key: value}
    return result


@pytest.fixture
def infotext(host: SimpleNamespace):
    """The writing half and the reading half."""
    return SimpleNamespace(**vars(host.load("notes")), paste=host.load("panel.paste").paste)


def there_and_back(infotext, settings: Settings) -> Settings:
    line = host_writes({"Steps": 6, **infotext.parameters(settings), "Version": "v1.10.1"})
    params = host_reads(line)
    return Settings(**{name: infotext.paste(setting)(params) for name, setting in TABLE.items()})


def test_nothing_when_disabled(infotext):
    assert infotext.parameters(Settings(positive_scale=9.0), start="x") == {}


def test_what_is_written(infotext):
    written = infotext.parameters(Settings(enabled=True), source_checkpoint="b.safetensors [bbbb]", start=None)
    assert written == {
        "Ditail": True,
        "Ditail source": "b.safetensors [bbbb]",
        "Ditail positive scale": 3.0,
        "Ditail negative scale": 0.5,
        "Ditail feature ratio": 0.8,
        "Ditail attention ratio": 0.5,
        "Ditail version": written["Ditail version"],
    }


def test_a_number_whose_default_does_nothing_is_written_when_it_does_something(infotext):
    written = infotext.parameters(Settings(enabled=True, feature_start=0.1, attention_weight=0.0))
    assert (written["Ditail feature start"], written["Ditail attention weight"]) == (0.1, 0.0)
    assert "Ditail feature weight" not in written


def test_what_means_nothing_is_not_written(infotext):
    written = infotext.parameters(Settings(enabled=True), without=("positive_scale", "refinements"))
    assert "Ditail positive scale" not in written
    assert "Ditail negative scale" in written


def test_facts_get_keys_of_their_own(infotext):
    assert infotext.parameters(Settings(enabled=True), first_pass="only")["Ditail first pass"] == "only"


CHANGED = Settings(
    enabled=True,
    source_checkpoint="b.safetensors",
    source_vae="sharp.vae.pt",
    positive_scale=2.5,
    negative_scale=0.0,
    feature_ratio=1.0,
    attention_ratio=0.25,
    inversion_prompt='a "quoted", (heavy:1.2)\nthing: <lora:x:1>',
    inversion_negative_prompt="64x64",
    inversion_rule="warm start",
    refinements=2,
    layer_profile="strong",
    record_every=3,
    feature_start=0.1,
    attention_start=0.2,
    feature_weight=0.0,
    attention_weight=0.75,
    region="outside inpaint mask",
    region_blur=0,
    content="generated",
    show_content=True,
    mix_checkpoint="A.ckpt",
    mix_weight=0.3,
    **dict.fromkeys(AGGREGATE, "A.ckpt"),
    **{f"{name}_weight": 0.25 for name in AGGREGATE},
    **{f"{name}_prompt": "a boat, <lora:x:1>" for name in AGGREGATE},
    **{f"{name}_negative_prompt": "dull: grey" for name in AGGREGATE},
    aggregation_ratio=0.5,
    aggregation_start=0.1,
    aggregation="alone",
)


@pytest.mark.parametrize("settings", [Settings(enabled=True), CHANGED])
def test_there_and_back(infotext, settings: Settings):
    assert there_and_back(infotext, settings) == settings
    if settings is CHANGED:
        assert settings.changed().keys() == TABLE.keys()  # a new setting must be added here


def test_prompts_survive(infotext):
    @hypothesis_settings(deadline=None)
    @given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20))
    def check(prompt: str) -> None:
        settings = Settings(enabled=True, inversion_prompt=prompt)
        assert there_and_back(infotext, settings) == settings

    check()


@pytest.mark.parametrize(
    ("name", "key"), [("source_checkpoint", "Ditail source"), ("mix_checkpoint", "Ditail mix with")]
)
def test_a_checkpoint_is_found_by_its_hash_after_renaming(infotext, name: str, key: str):
    read = infotext.paste(TABLE[name])
    assert read({"Ditail": "True", key: "A.ckpt [aaaa]"}) == "A.ckpt"
    assert read({"Ditail": "True", key: "old name.ckpt [aaaa]"}) == "A.ckpt"
    assert read({"Ditail": "True", key: "gone.ckpt [cccc]"}) == "gone.ckpt [cccc]"


def test_pasting_a_picture_without_ditail_switches_it_off_and_leaves_the_rest(infotext):
    values = {name: infotext.paste(setting)({"Steps": "6"}) for name, setting in TABLE.items()}
    assert values.pop("enabled") is False
    assert set(values.values()) == {None}


def test_pasting_resets_what_is_not_written(infotext):
    params = {"Ditail": "True", "Ditail source": "A.ckpt [aaaa]"}
    assert infotext.paste(TABLE["inversion_prompt"])(params) == ""
    assert infotext.paste(TABLE["refinements"])(params) == 0


@pytest.mark.parametrize("text", ["much", "", "1e999999x"])
def test_what_is_no_number_is_refused_by_the_labels_name(infotext, text: str):
    with pytest.raises(Exception, match=r"^Positive scale \(α\): must be a number, not ") as raised:
        infotext.paste(TABLE["positive_scale"])({"Ditail": "True", "Ditail positive scale": text})
    assert raised.value.status_code == 422


def test_notes_of_the_picture_before_are_taken_out(infotext):
    theirs = {"Mask blur": 4, "Ditailed": 1, "Script: Ditail grid": "x"}
    ours = infotext.parameters(Settings(enabled=True), start="not preserved")
    given = {**theirs, **ours}
    assert infotext.without_ours(given) == theirs
    assert given == {**theirs, **ours}
