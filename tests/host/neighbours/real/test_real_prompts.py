"""The real Dynamic Prompts and the real wildcards script, in folders before and after Ditail's in the alphabet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.client import Answer
from harness.probe import Probe, Records
from harness.server import WebUI

pytestmark = pytest.mark.server("prompts-before", "prompts-after")

BETA = {"source_checkpoint": "beta.safetensors"}
TABS = ("img2img", "txt2img")

COLOURS = ("red", "green", "blue", "violet", "golden")


@pytest.fixture(scope="module")
def wildcards(webui: WebUI) -> Iterator[Path]:
    """A file of colours, among the wildcards script's."""
    folder = next((webui.data / "extensions").glob("*-wildcards")) / "wildcards"
    file = folder / "colour.txt"
    file.write_text("\n".join(COLOURS), encoding="utf-8")
    yield file
    file.unlink()


@pytest.fixture(scope="module")
def title(webui: WebUI) -> str:
    """Dynamic Prompts' name, which has its version in it."""
    names = webui.get("/sdapi/v1/scripts").body["img2img"]
    return next(name for name in names if name.startswith("dynamic prompts"))


def dynamic(title: str, *, on: bool, combinatorial: bool = False) -> dict[str, Any]:
    """Its arguments, in the order of its controls."""
    magic = [False, False, False, 1.1, 1.5, 100, 0.7]
    seeds = [combinatorial, False]
    return {title: {"args": [on, combinatorial, 1, *magic, *seeds, True, False, False, 0, "", ""]}}


def ask(webui: WebUI, route: str, scripts: dict[str, Any], **request: Any) -> tuple[Answer, Records]:
    webui.probe.reset()
    answer = getattr(webui, route)(BETA, alwayson_scripts=scripts, **request)
    assert answer.status == 200, answer.body
    return answer, webui.probe.records()


def single(answer: Answer) -> list[bytes]:
    """An answer's pictures without the sheet of them."""
    return answer.pixels[-len(answer.info["all_prompts"]) :]


def as_written(webui: WebUI, route: str, title: str, answer: Answer) -> list[bytes]:
    """What requests with the expanded prompts, and nobody who expands any, give."""
    off, made = dynamic(title, on=False), []
    for prompt, seed in zip(answer.info["all_prompts"], answer.info["all_seeds"], strict=True):
        webui.post("/ditail/v1/cache/clear")
        made += ask(webui, route, off, prompt=prompt, seed=seed)[0].pixels
    return made


@pytest.mark.parametrize("route", TABS)
def test_a_choice_is_what_its_expansion_is(webui: WebUI, probe: Probe, title: str, route: str):
    found, records = ask(webui, route, dynamic(title, on=True), prompt="a {red|green|blue} circle", n_iter=2)
    assert all("{" not in prompt for prompt in found.info["all_prompts"])
    assert single(found) == as_written(webui, route, title, found)
    assert records.loads == ["beta.safetensors"]


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("route", TABS)
def test_all_combinations(webui: WebUI, probe: Probe, title: str, route: str, batch_size: int):
    """Three of them, which two batches of two do not hold evenly."""
    scripts = dynamic(title, on=True, combinatorial=True)
    found, records = ask(webui, route, scripts, prompt="a {red|green|blue} circle", batch_size=batch_size)
    assert found.info["all_prompts"] == [f"a {colour} circle" for colour in ("red", "green", "blue")]
    assert len(set(single(found))) == 3
    if batch_size == 1:
        assert single(found) == as_written(webui, route, title, found)
    assert records.loads == ["beta.safetensors"]


@pytest.mark.parametrize("route", TABS)
def test_wildcards(webui: WebUI, probe: Probe, title: str, wildcards: Path, route: str):
    found, _ = ask(webui, route, dynamic(title, on=False), prompt="a __colour__ circle", n_iter=3)
    assert all(prompt.split()[1] in COLOURS for prompt in found.info["all_prompts"])
    assert len(set(found.info["all_prompts"])) > 1
    assert single(found) == as_written(webui, route, title, found)
