"""Seconds and memory of whole runs against plain img2img, from steps measured in turn: ``python -m bench.speed``.

A run of any length with the default ratios consists of 50 % steps with feature and attention injected, 30 % with the
feature alone and 20 % plain ones. Each kind of step is timed on the full-size UNet, all modes in turn within a round,
and put together in these shares; ratios are taken within a round and their median is reported, with the least and the
greatest. Weights are random; VAE, text encoder and loading are left out.

Memory is measured in calls of its own, which are not timed: by how much a step's highest use exceeds a plain step's
(on a GPU by torch's count of allocated memory, on a CPU by the kernel's of resident pages). What
a mode keeps from step to step is counted: the trajectory and, with features cached, the features of a 50-step run.
Levels recorded several at once count with their share of the call, and with the recordings of all of it.
Writes ``bench/results/speed-SHAPE-DEVICE.csv``.

    python -m bench.speed [--shape sd15 sdxl] [--size 512] [--batch 1 4] [--rounds 3] [--device auto]
                          [--shortcut projections ...] [--ahead 2 4 8] [--suffix=-ahead] [--narrow]
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.memory import peak_of
from bench.shapes import SHAPES, Shape
from bench.steps import CFG_ROWS, PHASES, PLAIN_SHARE, STEPS, Bench, random_unet
from ditail_ext.core import (
    BankCache,
    Shortcut,
)
from ditail_ext.standalone.model import Compute

MIB = 2**20
HEADER = ("machine", "unet", "batch", "mode", "median", "least", "greatest")
MEMORY_HEADER = ("UNet rows, 50 steps", "peak MiB over plain", "kept MiB, 50 steps")


def one_round(bench: Bench, shortcuts: Sequence[Shortcut], ahead: Sequence[int]) -> dict[str, float]:
    """Every mode's seconds for an average step, in units of plain img2img's."""
    plain = bench.timed(bench.generated)
    inversion = bench.timed(bench.inverted)
    found = {"seconds a plain step": plain, "three-row method": bench.timed(bench.three_rows) / plain}
    for shortcut in shortcuts:
        for name, cache in (("trajectory cached", None), ("features cached", BankCache(2**40))):
            seconds = PLAIN_SHARE * plain
            for phase, (share, _, _) in PHASES.items():
                run = bench.step(phase, shortcut, cache)
                if cache is not None:
                    run()
                seconds += share * bench.timed(run)
            found[f"{name}, {shortcut.value}"] = seconds / plain
            if cache is None:
                found[f"first time, {shortcut.value}"] = (seconds + inversion) / plain
        for levels in ahead:
            each = sum(share * bench.timed(bench.ahead(phase, levels)) for phase, (share, _, _) in PHASES.items())
            cached = found[f"features cached, {shortcut.value}"]
            found[_recorded_ahead(levels, shortcut)] = cached + each / levels / plain
    return found


def _recorded_ahead(levels: int, shortcut: Shortcut) -> str:
    return f"trajectory cached, {levels} levels recorded at once, {shortcut.value}"


def memory(bench: Bench, shortcuts: Sequence[Shortcut], ahead: Sequence[int]) -> dict[str, tuple[str, str, str]]:
    """By mode: UNet rows in a run, a step's highest memory use above a plain step's, and what a run keeps."""
    plain = peak_of(bench.generated, bench.device)
    rows, recorded = CFG_ROWS * bench.batch * STEPS, round((1 - PLAIN_SHARE) * STEPS)

    def line(unet_rows: int, peak: int | None, kept: float) -> tuple[str, str, str]:
        extra = "" if peak is None or plain is None else f"{(peak - plain) / MIB:.0f}"
        return str(unet_rows), extra, f"{kept / MIB:.0f}"

    found = {
        "seconds a plain step": line(rows, plain, 0),
        "three-row method": line(rows * 3 // 2, peak_of(bench.three_rows, bench.device), bench.trajectory_bytes),
    }
    for shortcut in shortcuts:
        for name, keeps in (("trajectory cached", False), ("features cached", True)):
            cache = BankCache(2**40) if keeps else None
            peak, kept = _phases(bench, shortcut, cache)
            kept += bench.trajectory_bytes
            found[f"{name}, {shortcut.value}"] = line(rows + (0 if keeps else recorded), peak, kept)
            if not keeps:
                found[f"first time, {shortcut.value}"] = line(rows + recorded + STEPS, peak, kept)
        for levels in ahead:
            peak = peak_of(bench.ahead("both", levels), bench.device)
            found[_recorded_ahead(levels, shortcut)] = line(rows + recorded, peak, bench.trajectory_bytes)
    return found


def _phases(bench: Bench, shortcut: Shortcut, cache: BankCache | None) -> tuple[int | None, float]:
    """The highest use of any phase's step, and the bytes of features that a run keeps."""
    peaks, kept, before = [], 0.0, 0
    for phase, (share, _, _) in PHASES.items():
        run = bench.step(phase, shortcut, cache)
        run()
        peaks.append(peak_of(run, bench.device))
        if cache is not None:
            kept += share * STEPS * (cache.nbytes - before)
            before = cache.nbytes
    known = [peak for peak in peaks if peak is not None]
    return max(known, default=None), kept


def machine_name(compute: Compute) -> str:
    """The GPU's name; a CPU's with its number of threads; and the precision."""
    if compute.device.type == "cuda":
        name = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text("utf-8").splitlines() if info.is_file() else []
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = f"{models[0] if models else platform.machine()}, {torch.get_num_threads()} threads"
    return f"{name}, {str(compute.dtype).removeprefix('torch.')}"


def measure(compute: Compute, shape: Shape, args: argparse.Namespace) -> Any:
    """The table's rows for one shape, printed as they come."""
    unet = random_unet(shape, compute)
    shortcuts = [Shortcut(name) for name in args.shortcut]
    for batch in args.batch:
        bench = Bench(compute, shape, batch, unet)
        bench.timed(bench.generated)  # warms up
        used = memory(bench, shortcuts, args.ahead)
        found = [one_round(bench, shortcuts, args.ahead) for _ in range(args.rounds)]
        for mode in found[0]:
            values = [one[mode] for one in found]
            figures = [f"{value:.3f}" for value in (statistics.median(values), min(values), max(values))]
            name = f"{shape.name} {shape.size}x{shape.size}"
            row = (machine_name(compute), name, str(batch), mode, *figures, *used[mode])
            print("|", " | ".join(row), "|", flush=True)
            yield row


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", nargs="+", choices=list(vars(SHAPES)), default=["sd15"])
    parser.add_argument("--size", type=int, help="width and height in pixels; the shape's own")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--shortcut", nargs="+", default=[shortcut.value for shortcut in Shortcut])
    parser.add_argument("--ahead", type=int, nargs="*", default=[4], help="levels recorded at once")
    parser.add_argument("--suffix", default="", help="of the result's file name, to keep one there is")
    parser.add_argument("--narrow", action="store_true", help="few channels: to see that it runs; writes no file")
    args = parser.parse_args()
    compute = Compute.choose(args.device, "auto")
    for name in args.shape:
        shape = getattr(SHAPES, name).narrow() if args.narrow else getattr(SHAPES, name)
        shape = shape.at(args.size or shape.size)
        rows = list(measure(compute, shape, args))
        if args.narrow:
            continue
        device = "gpu" if compute.device.type == "cuda" else "cpu"
        results = Path(__file__).parent / "results" / f"speed-{name}{args.suffix}-{device}.csv"
        results.parent.mkdir(exist_ok=True)
        with results.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([(*HEADER, *MEMORY_HEADER), *rows])


if __name__ == "__main__":
    main()
