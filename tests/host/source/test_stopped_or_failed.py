"""The source stopped or failing at each of its stages: the target, and what it draws, are what they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harness.client import Answer
from harness.probe import Probe
from harness.server import WebUI

SERVERS = ("main", "one-yaml")

pytestmark = pytest.mark.server(*SERVERS)

BETA = {"source_checkpoint": "beta.safetensors"}
STAGES = {
    "img2img": ("load", "build", "move", "prompts", "encode", "run"),
    "txt2img": ("load", "build", "move", "prompts", "run", "decode"),
}
"""Of an inversion, and of a content that the source generates and shows."""

TRIED_AGAIN = ("load", "build")
"""Stages that are begun once more where memory was short, with what the target can spare."""


SMALL = {"height": 64, "steps": 4}


def ask(webui: WebUI, route: str) -> Answer:
    shown = {"show_content": True} if route == "txt2img" else {}
    return getattr(webui, route)({**BETA, **shown}, **SMALL)


@pytest.fixture(scope="module")
def right(webui: WebUI) -> dict[str, list[bytes]]:
    """What each route draws when nothing goes wrong, and the target without Ditail."""
    made = {route: ask(webui, route).pixels for route in STAGES}
    return {**made, "ordinary": webui.txt2img(**SMALL).pixels}


LOADED_OTHERWISE = ("load", "build", "move")
"""Stages that may go another way where all checkpoints share one ``.yaml``."""


def cases() -> Iterator[Any]:
    """WebUI, route, stage and what happens there. Skip ends a request as Interrupt does, and any exception as another:
    these two take turns, and only the slow run has both everywhere. What follows the load knows nothing of ``.yaml``s:
    the slow run has it on both WebUIs, the other one on the first.
    """
    for server in SERVERS:
        for route, stages in STAGES.items():
            for index, stage in enumerate(stages):
                others = ("skip", "RuntimeError")
                for then in ("interrupt", "OutOfMemoryError", others[index % 2], others[1 - index % 2]):
                    twice = server != SERVERS[0] and stage not in LOADED_OTHERWISE
                    slow = twice or then == others[1 - index % 2]
                    yield pytest.param(server, route, stage, then, marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize(("webui", "route", "stage", "then"), cases(), indirect=["webui"], scope="module")
def test_nothing_of_it_stays(
    webui: WebUI, probe: Probe, right: dict[str, list[bytes]], route: str, stage: str, then: str
):
    before = probe.state()
    probe.reset(stage=stage, then=then)
    answer = ask(webui, route)
    assert probe.state() == before
    records = probe.records()
    if then == "OutOfMemoryError" and stage in TRIED_AGAIN:
        assert (answer.status, answer.pixels) == (200, right[route])
        assert records.loads == ["beta.safetensors"] * 2
    else:
        ended_without_a_picture(answer, stopped=then in ("interrupt", "skip"))
        assert records.samples == []
        assert records.loads == ["beta.safetensors"]
    assert webui.txt2img(**SMALL).pixels == right["ordinary"]
    assert ask(webui, route).pixels == right[route]
    assert probe.state() == before


def ended_without_a_picture(answer: Answer, *, stopped: bool) -> None:
    """Stopped, the host answers with no picture; where something failed, with an error."""
    body: dict[str, Any] = answer.body
    if stopped:
        assert (answer.status, body["images"]) == (200, [])
    else:
        assert answer.status >= 400, body
        assert "images" not in body
        assert "Ditail" in str(body) or "thrown by the probe" in str(body), body
