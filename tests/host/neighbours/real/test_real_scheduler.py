"""The real Agent Scheduler: a queued request gives the direct one's picture, and leaves the host as it was."""

from __future__ import annotations

import time
from typing import Any

import pytest
from harness.beside import SOURCES
from harness.client import decode, img2img_request, txt2img_request
from harness.probe import Probe
from harness.server import WebUI
from harness.state import unchanged_host

pytestmark = pytest.mark.server("many")

TASKS = "/agent-scheduler/v1"
SECONDS = 120
LINGERS = 1.5
"""Seconds for which its runner takes no further task after the last."""
REQUESTS = {"img2img": img2img_request, "txt2img": txt2img_request}
BETA = SOURCES["beta"]
WRONG = {**BETA, "source_checkpoint": "nowhere.safetensors"}


def finished(webui: WebUI, route: str, ditail: dict[str, Any]) -> dict[str, Any]:
    """A task, put into the queue and done, one way or another."""
    queued = webui.post(f"{TASKS}/queue/{route}", REQUESTS[route](ditail, {}))
    assert queued.status == 200, queued.body
    place = f"{TASKS}/task/{queued.body['task_id']}"
    limit = time.monotonic() + SECONDS
    while (task := webui.get(place).body["data"])["status"] in ("pending", "running"):
        assert time.monotonic() < limit, task
        time.sleep(0.3)
    time.sleep(LINGERS)
    if task["status"] != "done":
        return task
    return {**task, "pictures": [decode(one["image"]) for one in webui.get(f"{place}/results").body["data"]]}


@pytest.mark.parametrize("route", REQUESTS)
def test_a_queued_request_gives_the_direct_ones_picture(webui: WebUI, probe: Probe, route: str):
    with unchanged_host(webui):
        ordinary = webui.txt2img().pixels
        direct = getattr(webui, route)(BETA)
        webui.post("/ditail/v1/cache/clear")
        probe.reset()
        task, records = finished(webui, route, BETA), probe.records()
        assert task["status"] == "done", task
        assert [picture.tobytes() for picture in task["pictures"]] == direct.pixels[:1]
        assert direct.pixels[:1] != ordinary
        assert records.source_ran
        assert webui.txt2img().pixels == ordinary


def test_a_queued_request_that_is_refused_fails_with_the_sentence(webui: WebUI, probe: Probe):
    with unchanged_host(webui):
        task = finished(webui, "img2img", WRONG)
        sentence = webui.img2img(WRONG).sentence
        # Where a request of its API fails, whoever's it is, the WebUI still has it as the current task until the next:
        # so long the scheduler's queue waits.
        assert webui.txt2img(steps=2).status == 200
    assert task["status"] == "failed"
    assert "nowhere.safetensors" in sentence
    assert sentence.removeprefix("Ditail: ") in task["result"]
