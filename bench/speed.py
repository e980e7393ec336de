"""Seconds of whole runs against plain img2img, from steps timed in turn: ``python -m bench.speed``.

A run of any length with the default ratios consists of 50 % steps with feature and attention injected, 30 % with the
feature alone and 20 % plain ones. Each kind of step is timed on the full-size UNet, all modes in turn within a round,
and put together in these shares; ratios are taken within a round and their median is reported, with the least and the
greatest. Weights are random; VAE, text encoder and loading are left out. Writes ``bench/results/speed-DEVICE.csv``.

    python -m bench.speed [--size 512] [--batch 1 4] [--rounds 3] [--device auto] [--shortcut "shared map" ...]
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ditail_ext.core import BankShelf, Injection, NoiseSchedule, Prompts, Shortcut, Window, ldm_noise_predictor
from ditail_ext.core.conditioning import expand_rows, join_rows
from ditail_ext.standalone.architecture import SD1_CONFIG, build_unet
from ditail_ext.standalone.model import Compute

LEVEL = NoiseSchedule.stable_diffusion().at_timestep(601)
PHASES = {"both": (0.5, Window(0, 1), Window(0, 1)), "feature": (0.3, Window(0, 1), Window(0, 0))}
"""Share of the steps, feature window, attention window; the remaining steps are plain."""
PLAIN_SHARE = 0.2
CFG_SCALE = 7.5


class Bench:
    """One UNet on one device, and the steps to be timed."""

    def __init__(self, compute: Compute, size: int, batch: int) -> None:
        with torch.device("meta"):
            unet = build_unet(SD1_CONFIG)
        torch.manual_seed(0)
        self.unet: nn.Module = unet.to_empty(device=compute.device).to(compute.dtype)
        for parameter in self.unet.parameters():
            nn.init.normal_(parameter, std=0.02)
        self._device = compute.device
        make = {"device": compute.device, "dtype": compute.dtype}
        self._source = torch.randn(1, 4, size // 8, size // 8, **make)
        self._rows = torch.randn(batch, 4, size // 8, size // 8, **make)
        self._prompts = Prompts(*(torch.randn(1, 77, 768, **make) for _ in range(3)))
        self._pair = join_rows([expand_rows(cond, batch) for cond in (self._prompts.positive, self._prompts.negative)])
        self.predict = ldm_noise_predictor(self.unet)

    def timed(self, function: Callable[[], object]) -> float:
        """Seconds of a call, the device synchronised."""
        self._synchronise()
        started = time.perf_counter()
        function()
        self._synchronise()
        return time.perf_counter() - started

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def generated(self) -> Tensor:
        """The host's call of a step: conditional and unconditional rows together."""
        return self.predict(torch.cat([self._rows, self._rows]), LEVEL, self._pair)

    def inverted(self) -> Tensor:
        """One inversion step."""
        return self.predict(self._source, LEVEL, self._prompts.positive)

    def three_rows(self) -> Tensor:
        """A step as the authors do it: every generated row's triple has a source row, in all steps."""
        rows = torch.cat([self._rows] * 3)
        cond = torch.cat([self._pair, expand_rows(self._prompts.empty, self._rows.shape[0])])
        return self.predict(rows, LEVEL, cond)

    def step(self, phase: str, shortcut: Shortcut, shelf: BankShelf | None) -> Callable[[], None]:
        """A step of Ditail in a phase, its features from the shelf if there is one."""
        _, feature, attention = PHASES[phase]

        def run() -> None:
            windows = {"feature_window": feature, "attention_window": attention}
            with Injection(self.unet, shortcut=shortcut, **windows) as injection:
                slot = None if shelf is None else shelf.slot(phase, LEVEL)
                injection.record(0, lambda: self.predict(self._source, LEVEL, self._prompts.empty), slot)
                with injection.replay(0):
                    self.generated()

        return run


def one_round(bench: Bench, shortcuts: list[Shortcut]) -> dict[str, float]:
    """Every mode's seconds for an average step, in units of plain img2img's."""
    plain = bench.timed(bench.generated)
    inversion = bench.timed(bench.inverted)
    found = {"seconds a plain step": plain, "three-row method": bench.timed(bench.three_rows) / plain}
    for shortcut in shortcuts:
        for name, shelf in (("trajectory cached", None), ("features cached", BankShelf(2**40))):
            seconds = PLAIN_SHARE * plain
            for phase, (share, _, _) in PHASES.items():
                run = bench.step(phase, shortcut, shelf)
                if shelf is not None:
                    run()
                seconds += share * bench.timed(run)
            found[f"{name}, {shortcut.value}"] = seconds / plain
            if shelf is None:
                found[f"first time, {shortcut.value}"] = (seconds + inversion) / plain
    return found


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--shortcut", nargs="+", default=[shortcut.value for shortcut in Shortcut])
    args = parser.parse_args()
    compute = Compute.choose(args.device, "auto")
    gpu = compute.device.type == "cuda"
    machine = torch.cuda.get_device_name() if gpu else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    rows = [("machine", "size", "batch", "mode", "median", "least", "greatest")]
    for batch in args.batch:
        bench = Bench(compute, args.size, batch)
        bench.timed(bench.generated)  # warms up
        rounds = [one_round(bench, [Shortcut(name) for name in args.shortcut]) for _ in range(args.rounds)]
        for mode in rounds[0]:
            values = [found[mode] for found in rounds]
            figures = (statistics.median(values), min(values), max(values))
            rows.append((machine, str(args.size), str(batch), mode, *(f"{value:.3f}" for value in figures)))
            print("|", " | ".join(rows[-1]), "|", flush=True)
        del bench
    results = Path(__file__).parent / "results" / f"speed-{'gpu' if gpu else 'cpu'}.csv"
    results.parent.mkdir(exist_ok=True)
    with results.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
