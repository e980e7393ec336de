"""The real ControlNet before Ditail in the alphabet, and after: the same pictures, from the first request on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness.beside import SOURCES, ask, script
from harness.client import alike
from harness.controls import HINT, listed, place_of, unit
from harness.models import control
from harness.server import Setup, WebUI
from harness.servers import SETUPS

pytestmark = pytest.mark.server("real")

FOLDERS = ("ditail", "zz-ditail")
REFERENCE = {"enabled": True, "module": "reference_only", "model": "None", "image": HINT, "save_detected_map": False}


@pytest.fixture(scope="module")
def named(model_files: Path, webui: WebUI) -> Iterator[dict[str, WebUI]]:
    """WebUIs by the name of Ditail's folder, with a small model of ControlNet's."""
    found = {"sd-webui-ditail": webui}
    with ExitStack() as stack:
        for folder in FOLDERS:
            found[folder] = WebUI(model_files, Setup(real=SETUPS["real"].real, folder=folder))
            stack.callback(found[folder].stop)
        for each in found.values():
            control.write(
                model_files / "checkpoints" / "alpha.safetensors", place_of(each) / "folders_tiny.safetensors"
            )
            stack.enter_context(listed(each))
            each.with_alpha()
        yield found


def asked(webui: WebUI) -> dict[str, dict[str, Any]]:
    return {"a model": unit(webui, "folders_tiny"), "reference_only": script("ControlNet", REFERENCE)}


@pytest.mark.parametrize("what", ["a model", "reference_only"])
def test_the_first_request_is_as_any(named: dict[str, WebUI], what: str):
    """The source is another checkpoint, so the loaded model is exchanged meanwhile."""
    made = {}
    for folder, webui in named.items():
        plain = ask(webui, None)
        request = asked(webui)[what]
        first, second = (ask(webui, SOURCES["beta"], request) for _ in range(2))
        assert first.status == second.status == 200, (folder, first.body)
        assert first.pixels == second.pixels, folder
        ask(webui, None)
        assert ask(webui, None).pixels == plain.pixels, folder
        assert first.pixels != ask(webui, SOURCES["beta"]).pixels
        made[folder] = first.pixels
    for folder in FOLDERS:
        assert alike(made[folder], made["sd-webui-ditail"]), folder
