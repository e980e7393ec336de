"""What the WebUI answers, for tests of its descendants: asked before, because one of a worker's runs at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from harness.cases import CASES, MASKED_SAMPLERS, masked
from harness.client import Answer
from harness.hosts import HOSTS, find_host
from harness.probe import Records
from harness.server import WebUI
from harness.servers import SETUPS


@pytest.fixture(scope="session")
def of_the_webui(model_files: Path) -> tuple[dict[str, Answer], dict[str, Records]]:
    """The WebUI's answers to all cases by name, and what it sampled with a mask by sampler."""
    if find_host("webui") is None:
        pytest.skip(HOSTS["webui"].missing)
    webui = WebUI(model_files, SETUPS["main"])
    try:
        answers = {name: case.ask(webui) for name, case in CASES.items()}
        return answers, {name: masked(webui, name) for name in MASKED_SAMPLERS}
    finally:
        webui.stop()


@pytest.fixture
def expected(of_the_webui: tuple[dict[str, Answer], dict[str, Records]]) -> Mapping[str, Answer]:
    """The WebUI's answers by the case's name."""
    return of_the_webui[0]


@pytest.fixture
def expected_masked(of_the_webui: tuple[dict[str, Answer], dict[str, Records]]) -> Mapping[str, Records]:
    """What the WebUI sampled with a mask, by the sampler's name."""
    return of_the_webui[1]
