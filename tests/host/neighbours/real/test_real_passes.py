"""The real ControlNet in requests of several passes: each is recorded and replayed; and what is kept afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness.beside import SOURCES, ask, recorded, script
from harness.client import Answer
from harness.controls import HINT, listed, place_of, unit
from harness.models import control
from harness.neighbours import SEVERAL
from harness.probe import Probe, Records
from harness.server import WebUI
from harness.state import options

pytestmark = pytest.mark.server("real")

EACH = 3
"""A pass's evaluations: so many of six steps DDIM makes at a denoising strength of 0.75; a window is open in each."""
WHOLE = {**SOURCES["beta"], "feature_ratio": 1.0, "attention_ratio": 1.0}


@pytest.fixture(scope="module", params=["a model", "reference_only"])
def asked(webui: WebUI, model_files: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    if request.param == "reference_only":
        wanted = {"enabled": True, "module": request.param, "model": "None", "image": HINT, "save_detected_map": False}
        yield script("ControlNet", wanted)
        return
    control.write(model_files / "checkpoints" / "alpha.safetensors", place_of(webui) / "passes_tiny.safetensors")
    with listed(webui):
        yield unit(webui, "passes_tiny")


def counted(webui: WebUI, ditail: dict[str, Any] | None, *parts: dict[str, Any]) -> tuple[Answer, Records]:
    webui.probe.reset()
    answer = ask(webui, ditail, *parts)
    assert answer.status == 200, answer.body
    return answer, webui.probe.records()


def evaluated(records: Records) -> int:
    """The sampler's calls; each that was not replayed into would have been an error."""
    return sum(call.sampling and call.output is not None for call in records.calls)


@pytest.mark.parametrize("what", SEVERAL)
def test_every_pass_is_recorded_and_replayed(webui: WebUI, probe: Probe, asked: dict[str, Any], what: str):
    """With nothing kept, so that each has to be recorded."""
    passes, request = SEVERAL[what]
    with options(webui, {"ditail_features_mb": 0, "ditail_record_rows": 1}):
        alone, before = counted(webui, WHOLE, request)
        only, _ = counted(webui, None, request, asked)
        both, beside = counted(webui, WHOLE, request, asked)
    assert len(beside.samples) == len(before.samples) == passes
    for records in (before, beside):
        assert recorded(records) == passes * EACH
        assert evaluated(records) == passes * EACH
    for other in (alone, only):
        for mine, theirs in zip(both.pictures, other.pictures, strict=True):
            assert np.abs(np.asarray(mine).astype(int) - np.asarray(theirs)).mean() > 1


def test_each_batch_is_what_a_single_one_is(webui: WebUI, probe: Probe, asked: dict[str, Any]):
    """As the start is the inverted picture, whatever the seed; the reference types draw noise of their own."""
    many, _ = counted(webui, WHOLE, SEVERAL["batch count"][1], asked)
    single, _ = counted(webui, WHOLE, asked)
    pictures = [picture.tobytes() for picture in many.pictures[-3:]]
    if "reference_only" in str(asked):
        assert pictures[0] == single.pixels[0]
    else:
        assert pictures == [single.pixels[0]] * 3


def test_a_second_seed_finds_everything(webui: WebUI, probe: Probe, asked: dict[str, Any]):
    counted(webui, WHOLE, asked)
    for seed, parts in ((8, {}), (9, asked), (10, {})):
        probe.reset()
        assert webui.img2img(WHOLE, seed=seed, **parts).status == 200
        records = probe.records()
        assert recorded(records) == 0
        assert all(call.sampling for call in records.calls)
        assert evaluated(records) == EACH
