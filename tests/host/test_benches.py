"""The benches that start WebUIs, run to their end with the shipped checkpoints in small sizes.

In a copy of the project, so that no result of a real run is written over. The authors' extension takes part where its
checkout is found in ``$WEBUI_EXTENSIONS``.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from harness.hosts import find_host
from harness.server import find_extensions

from tests.test_commands_run import project, run

__all__ = ["project"]

pytestmark = [pytest.mark.server("others"), pytest.mark.slow]

SMALL = ("--size", "64", "--steps", "4")


def measured(project: Path, module: str, *more: str) -> list[dict[str, str]]:
    """The rows that a bench writes; without ``--authors`` where these are not there."""
    folder = find_extensions(["sd-webui-ditail"])
    authors = () if folder is None or module == "loads" else ("--authors", str(folder / "sd-webui-ditail"))
    run(project, "-m", f"bench.webui.{module}", "--webui", str(find_host("webui")), *SMALL, *authors, *more)
    written = project / "bench" / "results" / f"webui-{module.replace('_', '-')}-cpu.csv"
    with written.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_pictures_in_a_row(project: Path) -> None:
    rows = measured(project, "in_a_row", "--folder", "small", "--before", str(project), "--pictures", "2")
    assert [row["mode"] for row in rows][:3] == ["plain img2img", "Ditail", "Ditail before"]
    assert [row["loads"] for row in rows][:2] == ["0", "1"]


def test_loads(project: Path) -> None:
    rows = measured(project, "loads", "--folder", "small")
    assert {row["sources"] for row in rows} == {"off", "auto", "4 GiB"}
    assert all(float(row["seconds"]) > 0 for row in rows)


def test_speed(project: Path) -> None:
    names = ("--source", "source.safetensors", "--target", "target.safetensors")
    rows = measured(project, "speed", "--checkpoints", "small", *names, "--rounds", "1")
    assert {row["mode"] for row in rows} >= {"plain img2img"}
    assert all(float(row["seconds"]) > 0 for row in rows)
