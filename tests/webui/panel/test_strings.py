"""What the panel shows beside its controls: the language file, and the pictures of the tooltips."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from ditail_ext.settings import TABLE

ROOT = Path(__file__).parents[3]
GERMAN = json.loads((ROOT / "localizations" / "de_DE.json").read_text("utf-8"))
PICTURES = sorted((ROOT / "ditail_ext" / "webui" / "panel" / "knobs").glob("*.jpg"))
STYLE = (ROOT / "style.css").read_text("utf-8")


@pytest.mark.parametrize("name", [name for name in TABLE if name != "enabled"])
def test_every_setting_is_in_the_language_file(name: str) -> None:
    setting = TABLE[name]
    for text in (setting.label, setting.help, f"Reset {setting.label}"):
        assert GERMAN.get(text, "").strip(), f"localizations/de_DE.json lacks {text!r}"


def test_the_language_file_has_nothing_twice_and_nothing_empty() -> None:
    text = (ROOT / "localizations" / "de_DE.json").read_text("utf-8")
    assert len(json.loads(text, object_pairs_hook=list)) == len(GERMAN)
    assert all(value.strip() for value in GERMAN.values())


def test_the_helps_it_has_are_the_table_s_as_they_are_now() -> None:
    """A help that was changed leaves a line behind that nobody looks for."""
    shown = {setting.help for setting in TABLE.values()}
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "ditail_ext").rglob("*.py"))
    joined = re.sub(r'"\s*(?:f?")', "", sources).replace("{CUSTOM}", "as set below")
    assert [text for text in GERMAN if len(text) > 60 and text not in shown and text not in joined] == []


def test_every_picture_is_a_setting_s_and_has_its_rule() -> None:
    names = {picture.stem for picture in PICTURES}
    assert names <= set(TABLE)
    assert set(re.findall(r'url\("ditail_ext/webui/panel/knobs/(\w+)\.jpg"\)', STYLE)) == names
    assert all(STYLE.count(f'"_ditail_{name}"') == 2 for name in names)


def test_the_pictures_are_small() -> None:
    assert PICTURES
    assert sum(picture.stat().st_size for picture in PICTURES) < 150_000
    assert all(Image.open(picture).height == 130 for picture in PICTURES)


def test_the_pictures_are_those_that_the_demonstration_makes() -> None:
    pytest.importorskip("ldm")
    from demo.knobs import KNOBS

    assert {picture.stem for picture in PICTURES} == set(KNOBS)
