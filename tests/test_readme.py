"""README.md says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from ditail_ext.settings import TABLE, Setting
from ditail_ext.standalone.cli import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def settings_row(setting: Setting) -> str:
    if setting.choices:
        values = ", ".join(setting.choices)
    elif setting.minimum is not None:
        values = f"{setting.minimum:g} to {setting.maximum:g}"
    else:
        values = {bool: "on, off", str: "any text"}[setting.kind]
    default = {"True": "on", "False": "off", "": "empty"}.get(str(setting.default), setting.default)
    return f"| {setting.label} | `{setting.name}` | {default} | {values} | {setting.help} |"


def settings_table() -> str:
    return "\n".join(settings_row(setting) for setting in TABLE.values())


def test_the_settings_table_is_the_codes() -> None:
    assert settings_table() in README, f"README.md should hold:\n{settings_table()}"
    assert README.count("| `") == len(TABLE)


def test_commands_and_options_exist() -> None:
    of_webui = {"--medvram-sdxl"}
    known = of_webui | {option for action in build_parser()._actions for option in action.option_strings}
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert used <= known, used - known
    assert "python3 dev.py run" in README
    assert "python3 dev.py test" in README
    assert "python3 dev.py test" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_linked_files_exist() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(
        r"`((?:docs|bench|demo)/[\w./-]+)`", README
    ):
        assert (ROOT / link).exists(), link
