"""Where the seconds go, in a real WebUI: in ``info``, never in the infotext."""

from __future__ import annotations

import time

from harness.probe import Probe
from harness.server import WebUI

BETA = {"source_checkpoint": "beta.safetensors"}
KEY = "Ditail seconds"


def test_the_split_adds_up_and_says_what_was_saved(webui: WebUI, probe: Probe):
    answers, seconds = [], []
    for _ in range(2):
        started = time.perf_counter()
        answers.append(webui.img2img(BETA, seed=3))
        seconds.append(time.perf_counter() - started)
    first, second = (answer.info["extra_generation_params"][KEY] for answer in answers)
    assert list(first) == ["load", "move", "encode", "invert", "record", "sample"]
    assert list(second) == ["record", "sample"]
    assert all(value > 0 for value in first.values())
    assert 0.3 * seconds[0] < sum(first.values()) < seconds[0]
    assert sum(second.values()) < seconds[1]
    assert second["record"] < first["record"]

    assert answers[0].infotext == answers[1].infotext
    assert KEY not in answers[0].infotext
    assert answers[0].pixels == answers[1].pixels


def test_without_ditail_nothing_is_said(webui: WebUI, probe: Probe):
    assert KEY not in webui.img2img().info["extra_generation_params"]
