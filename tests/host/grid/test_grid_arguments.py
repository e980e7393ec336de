"""What the grid script is given, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from harness.grids import NAMES, cells, grid
from harness.probe import Probe
from harness.server import WebUI


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([["alpha.safetensors", "none.safetensors"], ""], "no checkpoint named 'none.safetensors'"),
        ([["alpha.safetensors"], ""], "at least two"),
        ([[], "tiny"], "at least two"),
        ([["twin", "alpha"], ""], "twin"),
        ([["alpha", "alpha.safetensors"], ""], "twice"),
        (["alpha", ""], "Checkpoints of the grid: must be a list"),
        ([["alpha", "beta"], 3], "LoRAs of the grid: must be a list"),
        ([["alpha"], "nobody:1"], "no LoRA named 'nobody'"),
        ([["alpha"], "tiny:much"], "name:weight"),
        ([{"checkpoints": ["alpha", "beta"], "models": []}, ""], "no argument 'models'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_done(webui: WebUI, probe: Probe, args: Any, sentence: str):
    answer = grid(webui, script_args=args)
    assert answer.status == 422, answer.body
    assert sentence in answer.sentence
    assert answer.sentence.endswith(".")
    assert probe.records().calls == probe.records().loads == []


def test_the_panels_settings_are_checked_too(webui: WebUI, probe: Probe):
    answer = grid(webui, ditail={"positive_scale": 99.0})
    assert answer.status == 422
    assert answer.sentence.startswith("Ditail: Positive scale")
    assert probe.records().calls == []


def test_arguments_by_name_and_one_picture_a_cell(webui: WebUI):
    answer = grid(webui, script_args=[{"checkpoints": NAMES[:2]}], batch_size=2, n_iter=2)
    assert len(cells(answer)) == 4
