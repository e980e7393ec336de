"""Recording several steps of the source in one UNet call: fewer calls, the same rows, the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from harness.client import SQUARE, Answer
from harness.probe import Call, Probe, Records
from harness.reference import relative
from harness.server import WebUI

pytestmark = pytest.mark.server("held")

BETA = {"source_checkpoint": "beta.safetensors"}
ROWS = "ditail_record_rows"
STEPS = 6
SAMPLERS: dict[str, dict[str, Any]] = {
    "DDIM": {"sampler_name": "DDIM"},
    "Euler": {"sampler_name": "Euler"},
    "Heun": {"sampler_name": "Heun"},
    "DPM++ 2M Karras": {"sampler_name": "DPM++ 2M", "scheduler": "Karras"},
}
Ask = Callable[..., Answer]


@pytest.fixture
def rows_at_once(webui: WebUI) -> Iterator[Callable[[int], None]]:
    """Sets the option, and puts it back."""
    before = webui.get("/sdapi/v1/options").body[ROWS]
    yield lambda rows: set_option(webui, rows)
    set_option(webui, before)


def set_option(webui: WebUI, rows: int) -> None:
    assert webui.post("/sdapi/v1/options", {ROWS: rows}).status == 200
    webui.post("/ditail/v1/cache/clear")


def generate(probe: Probe, ask: Ask, ditail: dict[str, Any], **request: Any) -> Records:
    probe.reset()
    answer = ask(ditail, **{"steps": STEPS, **request})
    assert answer.status == 200, answer.sentence
    return probe.records()


def recorded(records: Records) -> list[Call]:
    """The passes of the source's latents through the target, which are broken off."""
    return [call for call in records.calls if call.output is None]


def by_level(calls: list[Call]) -> dict[float, list[bytes]]:
    """The recorded rows by timestep, each once."""
    found: dict[float, list[bytes]] = {}
    for call in calls:
        for row, timestep in zip(call.x, call.timesteps, strict=True):
            entries = found.setdefault(float(timestep), [])
            if row.tobytes() not in entries:
                entries.append(row.tobytes())
    return found


def same_pictures(one: Records, other: Records) -> bool:
    pairs = zip(one.samples, other.samples, strict=True)
    return all(relative(np.asarray(mine), np.asarray(theirs)) < 1e-5 for mine, theirs in pairs)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_inverted_sources_in_fewer_calls(
    webui: WebUI, probe: Probe, rows_at_once: Callable[[int], None], sampler: str
):
    """Both windows end within the run, so that there are two kinds of record passes."""
    ditail = {**BETA, "feature_ratio": 0.9, "attention_ratio": 0.5}
    request = {"denoising_strength": 1.0, **SQUARE, **SAMPLERS[sampler]}
    rows_at_once(1)
    alone = generate(probe, webui.img2img, ditail, **request)
    rows_at_once(8)
    together = generate(probe, webui.img2img, ditail, **request)
    again = generate(probe, webui.img2img, ditail, seed=5, **request)
    assert all(call.rows == 1 for call in recorded(alone))
    assert len(recorded(together)) == 2 < len(recorded(alone))
    assert by_level(recorded(together)) == by_level(recorded(alone))
    assert together.rows == alone.rows
    assert same_pictures(together, alone)
    assert recorded(again) == []


@pytest.mark.parametrize(("rows", "calls"), [(4, 3), (3, 6), (2, 6)])
def test_the_limit_counts_rows_of_all_sources(
    webui: WebUI, probe: Probe, rows_at_once: Callable[[int], None], rows: int, calls: int
):
    """Two pictures of a batch: their sources are two rows a step."""
    ditail = {**BETA, "feature_ratio": 1.0, "attention_ratio": 1.0}
    batch = {"seed": 3, "batch_size": 2, **SQUARE}
    rows_at_once(1)
    alone = generate(probe, webui.txt2img, ditail, **batch)
    rows_at_once(rows)
    together = generate(probe, webui.txt2img, ditail, **batch)
    assert len(recorded(together)) == calls
    assert by_level(recorded(together)) == by_level(recorded(alone))
    assert same_pictures(together, alone)


@pytest.mark.parametrize("sampler", ["Euler a", "Heun", "DPM++ SDE"])
def test_generated_sources_in_fewer_calls(
    webui: WebUI, probe: Probe, rows_at_once: Callable[[int], None], sampler: str
):
    """The recorded run knows which of its latents come next, however often its sampler visits a level."""
    ditail = {**BETA, "feature_ratio": 1.0, "attention_ratio": 1.0}
    rows_at_once(1)
    alone = generate(probe, webui.txt2img, ditail, sampler_name=sampler, **SQUARE)
    rows_at_once(32)
    together = generate(probe, webui.txt2img, ditail, sampler_name=sampler, **SQUARE)
    assert len(recorded(together)) == 1 < len(recorded(alone))
    assert together.rows == alone.rows
    assert same_pictures(together, alone)


def test_interrupted_while_the_steps_recorded_ahead_are_unused(
    webui: WebUI, probe: Probe, rows_at_once: Callable[[int], None]
):
    """What was recorded serves the next generation."""
    rows_at_once(8)
    ditail = {**BETA, "feature_ratio": 1.0, "attention_ratio": 1.0}
    request = {"steps": STEPS, "denoising_strength": 1.0}
    before = probe.state()
    inversion = STEPS
    probe.reset(stop_at=inversion + 3)
    assert webui.img2img(ditail, **request).status == 200
    assert len(recorded(probe.records())) == 1
    assert probe.state() == before
    assert recorded(generate(probe, webui.img2img, ditail, **request)) == []
