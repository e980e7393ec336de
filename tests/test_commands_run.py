"""The commands of README.md and docs/ that measure or train, run to their end: as they stand there, but small.

Each runs in a process of its own, in a copy of the project, so that no result of a real run is written over. What
`tests/test_documented_commands.py` parses is run here or by the tests that it names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from demo import tokenizer
from demo.assemble import assemble
from demo.parts import SHIPPED
from demo.train.unet import SIDE
from tests.test_documented_commands import ALL

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "out")
LIMIT = 900

IN_ONE_PROCESS = """
import concurrent.futures, dataclasses, runpy, sys
import demo.train.unet
demo.train.unet.SIDE = 64
import bench.quality.plan as plan, bench.quality.work as work

class Here:
    # Workers would not know what is small here.
    def __init__(self, workers, context, start, arguments): start(*arguments)
    def __enter__(self): return self
    def __exit__(self, *_): pass
    map = staticmethod(map)
    def submit(self, function, *arguments):
        job = concurrent.futures.Future()
        job.set_result(function(*arguments))
        return job

def fewer_steps(methods):
    return lambda: [dataclasses.replace(one, steps=2) for one in methods() if one.knob != "steps"] + [
        dataclasses.replace(one, steps=2 + int(one.value) // 25) for one in methods() if one.knob == "steps"]

concurrent.futures.ProcessPoolExecutor = Here
work.BATCH, work.REFERENCES = 1, 2
plan.DEFAULT = dataclasses.replace(plan.DEFAULT, steps=2)
for name in ("comparison", "knobs", "windows", "generated", "full", "generated_full"):
    setattr(plan, name, fewer_steps(getattr(plan, name)))
import bench.aggregation.methods as aggregated, bench.aggregation.plan
aggregated.STEPS, aggregated.LEVELS = 10, aggregated.SCHEDULE.ddim_levels(10)
bench.aggregation.plan.RUNS = {name: bench.aggregation.plan.RUNS[name] for name in ("noise", "inverted")}
import bench.aggregation.measure
bench.aggregation.measure.OWN = 2
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
"""A bench of pictures with one scene of 64 pixels for a pair of styles and few steps: its figures say nothing."""


@dataclass(frozen=True)
class Small:
    """How a documented command is made small, and what it must have written, in the copy."""

    more: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    says: str = ""
    patched: bool = False


BENCHES = {
    "python -m bench.aggregation": Small(
        ("--scenes", "6", "--workers", "1"), ("bench/results/aggregation.csv", "docs/aggregation.png"), patched=True
    ),
    "python -m bench.cheaper": Small(("--scenes", "6"), ("bench/results/cheaper.csv",), patched=True),
    "python -m bench.quality": Small(
        ("--scenes", "6", "--workers", "1"), ("bench/results/quality.csv", "docs/quality-img2img.png"), patched=True
    ),
    "python -m bench.first_picture --width 64 --size 256 --rounds 3": Small(
        ("--size", "64", "--rounds", "1", "--steps", "5"), ("bench/results/first-picture-cpu.csv",)
    ),
    "python -m bench.full_size photo.png --steps 5": Small(
        ("--folder", "small", "--steps", "2"), ("bench/results/full_size.csv",)
    ),
    "python -m bench.gpu": Small(("--device", "cpu"), says="left out: nothing"),
    "python -m bench.quality.quick --tokenizer DIR": Small(("--scenes", "1", "--threads", "1"), says="style"),
    "python -m bench.round_trip": Small(("--levels=DDIM 10",), ("bench/results/round_trip.csv",)),
    "python -m bench.speed --shape sd15 --batch 1 4 --rounds 3 --shortcut projections": Small(
        ("--narrow", "--batch", "1", "--rounds", "1", "--size", "128"), says="features"
    ),
    "python -m bench.suggest --tokenizer DIR": Small(("--scenes", "1"), ("bench/results/suggest.csv",)),
    "python -m demo.grid --out docs/demo-grid.png": Small(("--threads", "1"), ("docs/demo-grid.png",)),
    "python -m demo.knobs": Small(
        ("--knobs", "region", "--threads", "1"), ("ditail_ext/webui/panel/knobs/region.jpg",)
    ),
    "python -m demo.measure --tokenizer DIR --count 200 --out demo/checkpoints/measured.csv": Small(
        ("--count", "2", "--threads", "1", "--only", "shaded"), ("demo/checkpoints/measured.csv",)
    ),
    "python -m demo.probe --tokenizer DIR": Small(("--count", "2", "--threads", "1"), says="skips of blocks"),
}

TRAINING = "python -m demo.parts --folder STATE --tokenizer DIR"
"""Wants what `demo.train` leaves; the two are run one after the other."""

MAIN_JOB = "python3 dev.py run"
"""Sets up an environment and runs `demo.run` in it."""

ELSEWHERE = {
    "../../venv/bin/python -m demo.webui ../..": ("tests/demo/test_for_a_webui.py", "webui.main()"),
    "python -m bench.equality": ("tests/core/test_equality.py", "from bench.equality import"),
    "python -m bench.flops": ("tests/test_bench.py", "flops.ratios("),
    "python -m demo.assemble --out FOLDER": ("tests/demo/test_checkpoints.py", "assemble.assemble("),
    "python -m pytest tests/host/descendants -n0": ("tests/host/descendants/test_same_pictures.py", "def test_"),
    "python -m tests.campaign --state FILE": ("tests/host/campaign/test_campaign.py", "from tests.campaign import"),
    "python -m tests.standalone.bad_inputs": ("tests/standalone/test_bad_input.py", "bad_inputs"),
    "python -m bench.webui.in_a_row": ("tests/host/test_benches.py", '"in_a_row"'),
    "python -m bench.webui.speed": ("tests/host/test_benches.py", '"speed"'),
    "python -m ditail_ext picture.png": ("tests/test_documented_commands.py", '"python -m ditail_ext picture.png"'),
    "python3 dev.py run photo.jpg": ("tests/test_documented_commands.py", '"python3 dev.py run photo.jpg"'),
    "python3 dev.py test": (".ci/run", "dev.py test"),
}
"""By how a command begins: where what it does is done, and a word of it there."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, with a photo, the words and two small checkpoints where the commands look for them."""
    copy = tmp_path_factory.mktemp("commands") / "project"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    (copy / "DIR").mkdir()
    tokenizer.write(copy / "DIR")
    assemble(SHIPPED, copy / "small", None)
    for name, style in (("source", "shaded"), ("target", "ink")):
        for suffix in (".safetensors", ".yaml"):
            (copy / "small" / f"ditail-demo-{style}{suffix}").rename(copy / "small" / f"{name}{suffix}")
    shutil.copy(ROOT / "docs" / "region-half.png", copy / "photo.png")
    return copy


def run(project: Path, *words: str) -> str:
    """What Python said, after it has ended well in the copy."""
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words]
    ended = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", BENCHES, ids=lambda command: command.split(" ")[2])
def test_it_runs_to_its_end(project: Path, command: str) -> None:
    small = BENCHES[command]
    if small.patched:
        pytest.importorskip("matplotlib", reason="no matplotlib: install requirements/bench.txt")
    for name in small.writes:
        (project / name).unlink(missing_ok=True)
    module, *words = command.removeprefix("python -m ").split(" ")
    first = ("-c", IN_ONE_PROCESS, module) if small.patched else ("-m", module)
    assert small.says in run(project, *first, *words, *small.more)
    assert [name for name in small.writes if not (project / name).is_file()] == []


@pytest.mark.slow
def test_the_main_job_makes_its_sheet(project: Path) -> None:
    run(project, "-m", "demo.run")
    sheet = Image.open(project / "out" / "sheet.png")
    assert sheet.width > 4 * SIDE


@pytest.mark.slow
def test_a_training_ends_in_parts_that_can_be_shipped(project: Path) -> None:
    """The whole chain with next to no time, and the files that people would load."""
    for module, more in (("demo.train", ["--share", "0.0002"]), ("demo.parts", ["--out", "parts"])):
        run(project, "-m", module, "--folder", "STATE", "--tokenizer", "DIR", *more)
    assert {path.name for path in (project / "parts").glob("*.safetensors")} >= {
        "text.safetensors",
        "unet-base.safetensors",
        "unet-ink.safetensors",
        "lora-neon.safetensors",
        "vae.safetensors",
    }


def test_every_command_is_run_somewhere() -> None:
    """Another one of a program that is run here has only other words, which `test_documented_commands` parses."""
    here = {*BENCHES, TRAINING, MAIN_JOB}
    programs = tuple(f"{' '.join(command.split(' ')[:3])} " for command in here - {MAIN_JOB})
    assert [one for one in ALL if one not in here and not one.startswith((*programs, *ELSEWHERE))] == []
    assert [one for one in here if one not in ALL] == []
    assert [file for file, word in ELSEWHERE.values() if word not in (ROOT / file).read_text("utf-8")] == []
