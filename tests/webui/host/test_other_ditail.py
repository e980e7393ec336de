"""The authors' Ditail takes part in a request if it is switched on there and has a picture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest


def ui() -> list[Any]:
    return []


ui.__code__ = ui.__code__.replace(co_filename="/webui/extensions/theirs/scripts/ditail_ext.py")


class Script:
    def __init__(self, name: str, first: int, last: int) -> None:
        self.name, self.args_from, self.args_to = name, first, last


Script.ui = ui  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([True, "picture", True, {}], "theirs"),
        ([True, "picture", False, {}], None),
        ([True, None, True, {}], None),
        ([True], None),
    ],
    ids=["on", "off", "no picture", "no arguments"],
)
def test_who_is_on(host: SimpleNamespace, arguments: list[Any], expected: str | None):
    host.fake(
        sd_hijack_unet={"th": None},
        paths_internal={"extensions_dir": "/webui/extensions", "extensions_builtin_dir": "/webui/builtin"},
    )
    scripts = SimpleNamespace(alwayson_scripts=[Script("ditail", 0, 1), Script("diffusioncocktail", 1, 4)])
    p = SimpleNamespace(scripts=scripts, script_args=arguments)
    assert host.load("host.other_ditail").is_on(p) == expected


def test_a_request_without_scripts(host: SimpleNamespace):
    host.fake(sd_hijack_unet={"th": None})
    assert host.load("host.other_ditail").is_on(SimpleNamespace(scripts=None, script_args=[])) is None
