"""What the WebUI answers, for tests of its descendants: asked before, because one of a worker's runs at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from harness.cases import CASES, MASKED_SAMPLERS, masked
from harness.client import Answer
from harness.family_cases import FAMILY_CASES, MASKED_FAMILIES, aim, source_of, with_families
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


@pytest.fixture(scope="session")
def families_of_the_webui(
    model_files: Path, family_files: Path
) -> tuple[dict[tuple[str, str], Answer], dict[tuple[str, str], Records]]:
    """The WebUI's answers to the cases of other families, and what it sampled with a mask, by family and sampler."""
    if find_host("webui") is None:
        pytest.skip(HOSTS["webui"].missing)
    webui = WebUI(model_files, SETUPS["main"])
    answers, sampled = {}, {}
    try:
        with with_families(webui, model_files, family_files):
            for key, case in FAMILY_CASES.items():
                aim(webui, key[0])
                answers[key] = case.ask(webui)
            for family in MASKED_FAMILIES:
                aim(webui, family)
                sampled |= {(family, name): masked(webui, name, source_of(family)) for name in MASKED_SAMPLERS}
    finally:
        webui.stop()
    return answers, sampled
