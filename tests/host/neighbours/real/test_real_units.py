"""The real ControlNet's preprocessors and control modes, with a small random model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.beside import SOURCES, Case, both_effects_and_nothing_else
from harness.controls import HINT, listed, place_of, unit
from harness.models import control
from harness.probe import Probe
from harness.server import WebUI

pytestmark = pytest.mark.server("real")

UNITS: dict[str, dict[str, Any]] = {
    "canny": {"module": "canny", "threshold_a": 100, "threshold_b": 200, "processor_res": 64},
    "pixel perfect": {"module": "canny", "pixel_perfect": True},
    "shuffle": {"module": "shuffle"},
    "colorfix": {"module": "tile_colorfix", "threshold_a": 8},
    "inpaint_only": {"module": "inpaint_only", "mask": HINT},
    "prompt more important": {"control_mode": "My prompt is more important"},
    "ControlNet more important": {"control_mode": "ControlNet is more important"},
    "start and end": {"guidance_start": 0.2, "guidance_end": 0.7},
    "low vram": {"low_vram": True},
}


@pytest.fixture(scope="module")
def controlled(webui: WebUI, model_files: Path) -> Iterator[WebUI]:
    control.write(model_files / "checkpoints" / "alpha.safetensors", place_of(webui) / "units_tiny.safetensors")
    with listed(webui):
        yield webui


def several(webui: WebUI, *changed: dict[str, Any]) -> dict[str, Any]:
    asked = unit(webui, "units_tiny")
    scripts = asked["alwayson_scripts"]["ControlNet"]["args"]
    return {"alwayson_scripts": {"ControlNet": {"args": [scripts[0] | more for more in changed]}}}


@pytest.mark.parametrize("name", UNITS)
def test_both_effects_and_nothing_else(controlled: WebUI, probe: Probe, name: str):
    both_effects_and_nothing_else(controlled, Case(several(controlled, UNITS[name])), SOURCES["beta"])


def test_two_units(controlled: WebUI, probe: Probe):
    asked = several(controlled, {"weight": 0.7}, UNITS["canny"])
    both_effects_and_nothing_else(controlled, Case(asked), SOURCES["itself"])


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M", "Heun"])
def test_in_batches_and_with_other_samplers(controlled: WebUI, probe: Probe, sampler: str):
    base = {"sampler_name": sampler, "batch_size": 2, "n_iter": 2}
    both_effects_and_nothing_else(controlled, Case(several(controlled, {}), base), SOURCES["itself"])
