"""Every command in README.md and docs/ is one that the programs take: each is parsed by the program itself.

Those that cannot be parsed alone, because they have no arguments, are run where that is quick; what runs whole
elsewhere is named in ``RUN_ELSEWHERE``.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ditail_ext.standalone import cli
from ditail_ext.standalone.small import TEXT_FOLDER, write_small_checkpoint, write_text_folder

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "demo" / "checkpoints" / "MODEL_CARD.md")

RUN_ELSEWHERE = {
    "python -m tests.standalone.bad_inputs": "tests/standalone/test_bad_input.py",
    "python -m bench.flops": "tests/test_bench.py",
}
"""Programs without arguments, and the test that runs what they do."""


def commands(text: str) -> list[str]:
    """The Python commands of a page: whole lines of its blocks, and what stands in its lines as code."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.split("   #")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose)]
    found = [piece.strip() for line in [*lines, *spans] for piece in line.split("&&")]
    return [re.sub(r"\s+", " ", line) for line in found if re.match(r"(\S*/)?python3? (-m \w|dev\.py)", line)]


ALL = sorted({command for page in PAGES for command in commands(page.read_text("utf-8"))})


class _ParsedError(Exception):
    """The command's words were taken."""


def test_the_pages_have_commands() -> None:
    assert "python3 dev.py run" in ALL
    assert "../../venv/bin/python -m demo.webui ../.." in ALL
    assert "python -m bench.quality --sets full --scenes 18" in ALL
    assert len(ALL) >= 20


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("command", [one for one in ALL if " -m " in one])
def test_a_module_takes_its_words(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own parser reads them; a word that it does not know ends it."""
    words = shlex.split(command)
    module, arguments = words[2], words[3:]
    assert importlib.util.find_spec(module) is not None
    if command in RUN_ELSEWHERE:
        name = module.rpartition(".")[2]
        assert name in (ROOT / RUN_ELSEWHERE[command]).read_text("utf-8")
        return
    if module == "pytest":
        assert all((ROOT / word).exists() for word in arguments if not word.startswith("-"))
        return
    parse = argparse.ArgumentParser.parse_args

    def parsed(self: argparse.ArgumentParser, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        parse(self, args, namespace)
        raise _ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    with pytest.raises(_ParsedError):
        runpy.run_module(module, run_name="__main__")


@pytest.mark.parametrize("command", [one for one in ALL if "dev.py" in one])
def test_dev_py_takes_its_words(command: str) -> None:
    words = shlex.split(command)[2:]
    assert words[0] in ("run", "test")
    if words[0] == "run" and len(words) > 1:
        cli.build_parser().parse_args(words[1:])
    else:
        assert words[1:] in ([], ["--all"], ["--host"])


def test_what_pip_is_given_is_there() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert [file for file in set(re.findall(r"-r (\S+\.txt)", text)) if not (ROOT / file).is_file()] == []


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Small checkpoints and pictures of the names that the pages use."""
    from PIL import Image

    write_text_folder(tmp_path / TEXT_FOLDER)
    for seed, name in enumerate(("realistic", "watercolour", "ink", "shaded")):
        write_small_checkpoint(tmp_path / f"{name}.safetensors", seed=seed)
    for name in ("photo.jpg", "picture.png"):
        Image.linear_gradient("L").convert("RGB").resize((96, 64)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("begins", ["python3 dev.py run photo.jpg", "python -m ditail_ext picture.png"])
def test_the_command_line_s_examples_run(begins: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand there, but for the steps and the size."""
    (command,) = [one for one in ALL if one.startswith(begins)]
    monkeypatch.chdir(models)
    words = shlex.split(command)[3:]
    named = [words[words.index(option) + 1] for option in ("--output", "--sheet") if option in words]
    more = [] if "--output" in words else ["--output", "out.png"]
    assert cli.main([*words, *more, "--steps", "5", "--size", "64"]) == 0
    assert all((models / name).is_file() for name in named or ["out.png"])
