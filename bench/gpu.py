"""Everything that a GPU decides, in one call of under eight minutes: ``python -m bench.gpu``.

It wants torch for CUDA, this repository, and ldm's UNet (``pip install stable-diffusion-sdkit==2.1.5 --no-deps``, with
``einops`` and ``omegaconf``); with pytest the core's tests run on the device as well. Parts that the time no longer
allows are named and left out. Prints one table, the one for ``docs/speed.md``, says what it would choose as defaults,
and writes ``bench/results/gpu-PART-DEVICE.csv``. Without a GPU it says so, does the small shapes to see that all of it
runs, and writes to ``out/gpu``.

    python -m bench.gpu [--minutes 8] [--device cuda]
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
REHEARSAL = ROOT / "out" / "gpu"
NEEDED = {"ldm": "stable-diffusion-sdkit==2.1.5 --no-deps", "einops": "einops", "omegaconf": "omegaconf"}
RESERVE = 20.0
"""Seconds that are left for writing."""

Row = tuple[str, ...]


def missing() -> list[str]:
    """What has to be installed first, as pip is told."""
    return [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]


@dataclass
class Report:
    """What was measured, by part, and how long there still is.

    Attributes:
        device: where it is measured.
        folder: for the CSV files.
        ends: when it must be over, by ``time.monotonic``.
    """

    device: torch.device
    folder: Path
    ends: float
    lines: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def seconds_left(self) -> float:
        """For measuring."""
        return self.ends - RESERVE - time.monotonic()

    @property
    def is_gpu(self) -> bool:
        """Whether the figures mean anything."""
        return self.device.type == "cuda"

    @property
    def device_name(self) -> str:
        """Of the GPU; ``cpu`` without one."""
        return torch.cuda.get_device_name(self.device) if self.is_gpu else "cpu"

    def run(self, part: str, seconds: float, measure: Callable[[], tuple[Row, Sequence[Row]]]) -> list[Row]:
        """Measure a part if its seconds are left, write its CSV, and return its rows; none if it is left out.

        A part that runs out of memory is left out as well: the others have their figures.
        """
        if self.seconds_left < seconds:
            self.left_out.append(f"{part} (no time left)")
            return []
        started = time.monotonic()
        try:
            header, rows = measure()
        except torch.cuda.OutOfMemoryError:
            self.left_out.append(f"{part} (out of memory)")
            return []
        finally:
            if self.is_gpu:
                torch.cuda.empty_cache()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"gpu-{_slug(part)}-{_slug(self.device_name)}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("device", *header), *((self.device_name, *row) for row in rows)])
        self.lines += [f"| {part} | {' | '.join(row)} |" for row in rows]
        print(f"{part}: {time.monotonic() - started:.0f} s, {len(rows)} rows", flush=True)
        return list(rows)


def core_tests(report: Report) -> tuple[Row, Sequence[Row]]:
    """The core's tests with ``--device``: equality on it, transfers on its streams."""
    if importlib.util.find_spec("pytest") is None:
        return ("result",), [("not run: pip install pytest",)]
    folder, device = ROOT / "tests" / "core", f"--device={report.device}"
    which = [folder] if report.is_gpu else [folder / "recordings"]
    command = [sys.executable, "-m", "pytest", *map(str, which), device, "-q", "-p", "no:cacheprovider"]
    limit = max(30.0, min(150.0, report.seconds_left / 2))
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return ("result",), [(f"not done after {limit:.0f} s",)]
    return ("result",), [(done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr[-200:],)]


def main() -> None:
    """Measure part by part, the most wanted first; print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if missing():
        sys.exit(f"bench.gpu needs more: {' and '.join(f'pip install {package}' for package in missing())}")
    from bench.gpu_parts import Parts  # needs what may have been missing

    device = torch.device(args.device)
    gpu = device.type == "cuda"
    report = Report(device, RESULTS if gpu else REHEARSAL, time.monotonic() + 60 * args.minutes)
    started = time.monotonic()
    if not gpu:
        print("There is no GPU here: small shapes only, to see that it runs; the figures mean nothing.", flush=True)
    parts = Parts(report)
    for title, seconds, measure in parts.plan():
        report.run(title, seconds, measure)
    report.run("core tests", 30.0, lambda: core_tests(report))
    print("\n".join([f"\n{report.device_name}, torch {torch.__version__}", "", "| part | figures |", *report.lines]))
    print("\n".join(["", *parts.choices()]))
    print(f"left out: {', '.join(report.left_out) or 'nothing'}; {(time.monotonic() - started) / 60:.1f} minutes")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    main()
