"""The real Regional Prompter, and the real LoRA block weight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.beside import (
    SOURCES,
    Case,
    both_effects_and_nothing_else,
    script,
    the_same_without_ditail,
    the_same_without_neighbours,
)
from harness.probe import Probe
from harness.server import Setup, WebUI
from harness.servers import SETUPS

pytestmark = pytest.mark.server("regions")


def regional(mode: str, prompt: str) -> dict[str, Any]:
    values = [True, False, "Matrix", "Columns", "Mask", "Prompt", "1,1", "0.2", False, False, False, mode, [], "0"]
    return {**script("Regional Prompter", *values, "0", "0.4", None, "0", "0", False), "prompt": prompt}


CASES = {
    "LoRA block weight": Case(
        {"prompt": "a red circle <lora:tiny:1:lbw=OUTD>"}, {"prompt": "a red circle <lora:tiny:1>"}
    ),
    "Regional Prompter, attention": Case(regional("Attention", "a red circle BREAK a blue square")),
    "Regional Prompter, latent": Case(regional("Latent", "a red circle AND a blue square <lora:tiny:1>")),
}


@pytest.fixture(scope="module")
def without_ditail(model_files: Path, webui: WebUI) -> Iterator[WebUI]:
    """A WebUI with the same neighbours and no Ditail."""
    here = SETUPS["regions"]
    other = WebUI(model_files, Setup(real=here.real, flags=here.flags, folder=""))
    other.with_alpha()  # the first picture of all
    yield other
    other.stop()


@pytest.fixture(scope="module")
def without_neighbours(model_files: Path, webui: WebUI) -> Iterator[WebUI]:
    """A WebUI with Ditail and none of them."""
    other = WebUI(model_files, Setup())
    other.with_alpha()
    yield other
    other.stop()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", CASES)
def test_both_effects_and_nothing_else(webui: WebUI, probe: Probe, name: str, source: str):
    both_effects_and_nothing_else(webui, CASES[name], SOURCES[source])


@pytest.mark.parametrize("name", CASES)
def test_with_ditail_off(webui: WebUI, without_ditail: WebUI, name: str):
    the_same_without_ditail(webui, without_ditail, CASES[name])


def test_with_all_of_them_off(webui: WebUI, without_neighbours: WebUI):
    the_same_without_neighbours(webui, without_neighbours)
