"""Requests with a neighbour: stand-ins for other extensions, before and after Ditail in the alphabet."""

from __future__ import annotations

from typing import Any

import pytest
from harness.client import Answer
from harness.installed import NEIGHBOURS
from harness.neighbours import Ask
from harness.probe import Probe, Records
from harness.server import WebUI


@pytest.fixture(params=NEIGHBOURS)
def neighbour(request: pytest.FixtureRequest) -> str:
    """The name of the one that is asked: before Ditail, or after."""
    return request.param


@pytest.fixture
def ask(webui: WebUI, probe: Probe, neighbour: str) -> Ask:
    """Makes a request with Ditail (``None``: without) and what the neighbour is to do."""

    def run(
        ditail: dict[str, Any] | None, *ways: str, route: str = "img2img", **request: Any
    ) -> tuple[Answer, Records]:
        probe.reset()
        scripts = {neighbour: {"args": [list(ways)]}} if ways else {}
        return getattr(webui, route)(ditail, alwayson_scripts=scripts, **request), probe.records()

    return run
