"""The real ControlNet with a small random model, also under --medvram, and in a grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.beside import SOURCES, Case, ask, both_effects_and_nothing_else, recorded, script
from harness.client import circle, encode
from harness.models import control
from harness.probe import Probe
from harness.server import WebUI

pytestmark = pytest.mark.server("real", "real-medvram")

GRID = ["alpha.safetensors", "beta.safetensors", "gamma.safetensors"]
HINT = encode(circle(colour=(20, 200, 60)))


@pytest.fixture(scope="module")
def controlled(webui: WebUI, model_files: Path) -> Iterator[dict[str, Any]]:
    """What asks for the small model, which is there for this module's time."""
    file = webui.data / "extensions" / "sd-webui-controlnet" / "models" / "control_tiny.safetensors"
    control.write(model_files / "checkpoints" / "alpha.safetensors", file)
    names = webui.get("/controlnet/model_list", update="true").body["model_list"]
    name = next(name for name in names if name.startswith("control_tiny"))
    unit = {"enabled": True, "module": "none", "model": name, "image": HINT, "save_detected_map": False}
    yield script("ControlNet", unit)
    file.unlink()


@pytest.mark.parametrize("source", SOURCES)
def test_both_effects_and_nothing_else(webui: WebUI, probe: Probe, controlled: dict[str, Any], source: str):
    both_effects_and_nothing_else(webui, Case(controlled), SOURCES[source])


def test_each_cell_of_a_grid_is_what_its_request_gives(webui: WebUI, probe: Probe, controlled: dict[str, Any]):
    grid = {"script_name": "ditail grid", "script_args": [GRID, []]}
    probe.reset()
    answer = ask(webui, SOURCES["itself"], controlled, grid)
    assert answer.status == 200, answer.body
    records = probe.records()
    assert len(records.samples) == 9
    evaluations = sum(call.sampling and call.output is not None for call in records.calls)
    cells = answer.pixels[1:]
    expected, singles = [], []
    for source in GRID:
        for target in GRID:
            named = {"override_settings": {"sd_model_checkpoint": target}}
            probe.reset()
            single = ask(webui, {**SOURCES["itself"], "source_checkpoint": source}, controlled, named)
            singles.append(probe.records())
            expected.append(single.pixels[0])
    assert len(set(expected)) == 9
    assert cells == expected
    assert recorded(records) == sum(map(recorded, singles)) == 9 * recorded(singles[0]) > 0
    assert evaluations == 9 * sum(call.sampling and call.output is not None for call in singles[0].calls) > 0
