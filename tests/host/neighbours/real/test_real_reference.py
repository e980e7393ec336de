"""The real ControlNet's reference types: another picture's tokens in the picture's self-attention."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.beside import (
    SOURCES,
    XL,
    XL_SOURCES,
    Case,
    ask,
    both_effects_and_nothing_else,
    script,
    settle,
    the_same_without_ditail,
)
from harness.controls import HINT
from harness.families import families_in
from harness.probe import Probe
from harness.server import Setup, WebUI
from harness.servers import SETUPS

pytestmark = pytest.mark.server("real")

TYPES = ["reference_only", "reference_adain", "reference_adain+attn"]


def reference(module: str, **changed: Any) -> dict[str, Any]:
    unit = {"enabled": True, "module": module, "model": "None", "image": HINT, "save_detected_map": False}
    return script("ControlNet", unit | changed)


@pytest.fixture(scope="module")
def xl(webui: WebUI, family_files: Path) -> Iterator[WebUI]:
    with families_in(webui, family_files):
        yield webui


@pytest.fixture(scope="module")
def without_ditail(model_files: Path, webui: WebUI) -> Iterator[WebUI]:
    """A WebUI with the same neighbours and no Ditail."""
    other = WebUI(model_files, Setup(real=SETUPS["real"].real, folder=""))
    other.with_alpha()  # the first picture of all
    yield other
    other.stop()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("module", TYPES)
def test_both_effects_and_nothing_else(webui: WebUI, probe: Probe, module: str, source: str):
    both_effects_and_nothing_else(webui, Case(reference(module)), SOURCES[source])


def test_both_effects_with_sdxl(xl: WebUI, probe: Probe):
    both_effects_and_nothing_else(xl, Case(reference("reference_adain+attn"), target=XL), XL_SOURCES["beta"])


@pytest.mark.parametrize("module", TYPES)
def test_without_weight_it_is_ditail_alone(webui: WebUI, probe: Probe, module: str):
    asked = Case(reference(module, weight=0.0))
    settle(webui, asked)
    alone = ask(webui, SOURCES["itself"])
    assert ask(webui, SOURCES["itself"], asked.asked).pixels[0] == alone.pixels[0]


@pytest.mark.parametrize("module", TYPES)
def test_with_ditail_off(webui: WebUI, without_ditail: WebUI, module: str):
    the_same_without_ditail(webui, without_ditail, Case(reference(module)))
