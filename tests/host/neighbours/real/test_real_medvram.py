"""Real extensions in a WebUI with --medvram, SDXL included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.beside import (
    SOURCES,
    XL,
    XL_SOURCES,
    Case,
    both_effects_and_nothing_else,
    script,
    the_same_without_ditail,
)
from harness.controls import HINT, listed, place_of, unit
from harness.families import families_in
from harness.models import control
from harness.probe import Probe
from harness.server import Setup, WebUI
from harness.servers import SETUPS

pytestmark = pytest.mark.server("real-medvram")

ADETAILER = script("ADetailer", True, False, {"ad_model": "mediapipe_face_full"})
REFERENCE = {"enabled": True, "module": "reference_only", "model": "None", "image": HINT, "save_detected_map": False}
ASKED = {
    "ADetailer": ADETAILER,
    "ADetailer, SDXL": ADETAILER,
    "ControlNet, SDXL": None,
    "reference_only": script("ControlNet", REFERENCE),
}
"""``None`` asks for the model that is made for it."""


def case(webui: WebUI, name: str) -> Case:
    asked = ASKED[name] or unit(webui, "sdxl_tiny")
    return Case(asked, target=XL) if name.endswith("SDXL") else Case(asked)


@pytest.fixture(scope="module")
def beside(webui: WebUI, family_files: Path) -> Iterator[WebUI]:
    control.write(family_files / "xl-alpha.safetensors", place_of(webui) / "sdxl_tiny.safetensors")
    with listed(webui), families_in(webui, family_files):
        yield webui


@pytest.fixture(scope="module")
def without_ditail(model_files: Path, family_files: Path, webui: WebUI) -> Iterator[WebUI]:
    """A WebUI with the same neighbours and no Ditail."""
    here = SETUPS["real-medvram"]
    other = WebUI(model_files, Setup(real=here.real, flags=here.flags, folder=""))
    control.write(family_files / "xl-alpha.safetensors", place_of(other) / "sdxl_tiny.safetensors")
    with listed(other), families_in(other, family_files):
        other.with_alpha()  # the first picture of all
        yield other
    other.stop()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ASKED)
def test_both_effects_and_nothing_else(beside: WebUI, probe: Probe, name: str, source: str):
    sources = XL_SOURCES if name.endswith("SDXL") else SOURCES
    both_effects_and_nothing_else(beside, case(beside, name), sources[source])


@pytest.mark.parametrize("name", ASKED)
def test_with_ditail_off(beside: WebUI, without_ditail: WebUI, name: str):
    the_same_without_ditail(beside, without_ditail, case(beside, name))
