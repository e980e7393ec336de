"""A grid that was interrupted, or asked for again: what is kept, and what is made anew."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.client import Answer
from harness.grids import NAMES, cells, grid, kept, samplings
from harness.probe import Probe
from harness.server import WebUI
from harness.state import unchanged_host


def interrupt_after(webui: WebUI, count: int, request: dict[str, Any]) -> Answer:
    """Run a grid, and press Interrupt by the API once so many cells are finished."""
    answers: list[Answer] = []
    worker = threading.Thread(target=lambda: answers.append(grid(webui, **request)))
    worker.start()
    limit = time.monotonic() + 200
    while len(kept(webui)) < count and time.monotonic() < limit:
        time.sleep(0.01)
    progress = webui.get("/sdapi/v1/progress", skip_current_image=True).body
    assert webui.post("/sdapi/v1/interrupt").status == 200
    assert progress["state"]["job_count"] == 9 + 3  # cells and inversions
    assert count + 3 <= progress["state"]["job_no"] < 9 + 3
    assert progress["state"]["job"] == f"Ditail grid: cell {progress['state']['job_no'] - 3 + 1} of 9"
    worker.join()
    return answers[0]


@pytest.mark.parametrize("seed", [7, -1])
def test_an_interrupted_grid_goes_on_where_it_ended(webui: WebUI, probe: Probe, seed: int):
    request = {"seed": seed, "sampler_name": "Euler a"}
    with unchanged_host(webui):
        probe.reset(delay=0.02)
        broken = interrupt_after(webui, 4, request)
    done = kept(webui)
    assert 4 <= len(done) < 9
    assert len(cells(broken)) == len(done)
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    finished = grid(webui, **request)
    made = cells(finished)
    assert samplings(probe) == 9 - len(done)
    assert len(probe.records().loads) <= 2 * len(NAMES)
    assert set(cells(broken)) < set(made)
    texts = broken.info["infotexts"] + finished.info["infotexts"]
    assert {text.split("Seed: ")[1].split(",")[0] for text in texts} == {str(finished.info["seed"])}
    shutil.rmtree(webui.data / "outputs")
    if seed == 7:
        assert cells(grid(webui, **request)) == made  # as if it had never been interrupted
    else:
        assert grid(webui, **request).info["seed"] != finished.info["seed"]  # a finished one draws anew


def test_a_cell_that_fails_leaves_the_others(webui: WebUI, probe: Probe):
    with unchanged_host(webui):
        probe.reset(throw_load="gamma.safetensors")
        answer = grid(webui)
        assert answer.status != 200
        assert "thrown by the probe" in answer.sentence
    assert len(kept(webui)) == 2  # alpha's and beta's own
    probe.reset()
    assert len(cells(grid(webui))) == 9
    assert samplings(probe) == 7
    assert len(probe.records().loads) <= 2 * len(NAMES)


def test_a_skipped_cell_is_left_out(webui: WebUI, probe: Probe):
    probe.reset(stop_at=20, stop="skip")
    made = cells(grid(webui))
    assert len(made) == len(kept(webui)) == 8
    probe.reset()
    assert len(cells(grid(webui))) == 9
    assert samplings(probe) == 1


MIXED = {"ditail": {"mix_checkpoint": "delta.safetensors", "mix_weight": 0.5}}


def test_a_fourth_model_and_another_prompt(webui: WebUI, probe: Probe):
    """Cells are told apart by all that they depend on, and by nothing else."""
    first = cells(grid(webui, NAMES[:2]))
    probe.reset()
    assert set(first) < set(cells(grid(webui)))
    assert samplings(probe) == 5
    for change in ({"prompt": "a blue square"}, {"seed": 8}, {"ditail": {"refinements": 1}}, MIXED):
        probe.reset()
        cells(grid(webui, NAMES[:2], **change))
        assert samplings(probe) == 4


@pytest.fixture
def trained(webui: WebUI) -> Iterator[Path]:
    """A checkpoint with a configuration of its own, into whose name somebody trains."""
    path = webui.checkpoints / "trained.safetensors"
    for suffix in (".safetensors", ".yaml"):
        shutil.copyfile(webui.checkpoints / f"beta{suffix}", path.with_suffix(suffix))
    webui.post("/sdapi/v1/refresh-checkpoints")
    yield path
    path.unlink()
    path.with_suffix(".yaml").unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


def test_cells_of_a_configuration_that_changed(webui: WebUI, probe: Probe, trained: Path):
    """``parameterization: v`` beside the file: only the cell in which it has no part is still the grid's."""
    names = ["alpha.safetensors", trained.name]
    first = cells(grid(webui, names))
    trained.with_suffix(".yaml").write_text((webui.checkpoints / "vpred.yaml").read_text())
    os.utime(trained.with_suffix(".yaml"))
    probe.reset()
    second = cells(grid(webui, names))
    assert samplings(probe) == 3
    assert [before == after for before, after in zip(first, second, strict=True)] == [True, False, False, False]
    shutil.rmtree(webui.data / "outputs")
    webui.post("/ditail/v1/cache/clear")
    assert cells(grid(webui, names)) == second
