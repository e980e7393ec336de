"""Wrong input: one sentence, exit status 2, no traceback, nothing written or overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ditail_ext.standalone.cli import WRONG_INPUT, main

from .bad_inputs import CASES, Case, table

DOCS = Path(__file__).parents[2] / "docs" / "bad-input.md"


def command_line(case: Case, arguments: list[str], folder: Path, checkpoints: Path) -> list[str]:
    more = case.prepare(folder, checkpoints)
    if more[0] == "WITHOUT --source":
        arguments = [argument for argument in arguments if not argument.startswith("--source")]
        more = more[1:]
    if not more[0].startswith("--"):
        arguments = arguments[1:]
    return [*arguments, *more]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_one_sentence_and_nothing_written(
    case: Case, arguments: list[str], tmp_path: Path, checkpoints: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if case.what == "no GPU" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    folder = tmp_path / "inputs"
    folder.mkdir()
    wrong = command_line(case, arguments, folder, checkpoints)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    assert main(wrong) == WRONG_INPUT

    said = caplog.messages[-1].replace(str(folder), "FOLDER").replace(str(checkpoints), "CHECKPOINTS")
    assert said == case.sentence
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_there_are_many_and_the_docs_show_them() -> None:
    assert len(CASES) >= 25
    assert len({case.what for case in CASES}) == len(CASES)
    assert table() in DOCS.read_text("utf-8")


def test_an_output_folder_without_permission(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: False if Path(path) == tmp_path and mode == os.W_OK else real(path, mode)
    )
    assert main(arguments) == WRONG_INPUT
    assert "cannot be written; name a file in a folder" in caplog.messages[-1]


@pytest.mark.parametrize(
    "more",
    [["--target=none.safetensors"], ["--steps=ten"], ["--output=nowhere/out.png"]],
    ids=["file", "type", "output"],
)
def test_stderr_holds_the_sentence_and_nothing_else(arguments: list[str], tmp_path: Path, more: list[str]) -> None:
    command = [sys.executable, "-m", "ditail_ext", *arguments, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == WRONG_INPUT
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.strip().endswith(".")
    assert list(tmp_path.iterdir()) == []
