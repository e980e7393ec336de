"""Counted FLOPs of whole runs against plain img2img: ``python -m bench.flops``.

Full-size UNets on torch's meta device: every convolution and matrix product of the very code that runs is counted,
none is computed. A step of each kind is counted, and weighted by its share of a run with the default ratios.
VAE and text encoder are left out; plain img2img is taken at denoising strength 1, with all steps. Writes
``bench/results/flops.csv``.
"""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.shapes import SHAPES, Shape
from ditail_ext.core import (
    BankCache,
    Condition,
    Injection,
    InversionRule,
    Level,
    Levels,
    NoiseSchedule,
    Prompts,
    Shortcut,
    SourceTrajectory,
    Window,
    invert,
    ldm_noise_predictor,
    sample,
)

RESULTS = Path(__file__).parent / "results" / "flops.csv"
SHARES = (0.5, 0.3, 0.2)
"""Of a run's steps with the default ratios: feature and attention injected, the feature alone, neither."""
WINDOWS = {"feature_window": Window(0, 2), "attention_window": Window(0, 1)}
LEVELS = NoiseSchedule.stable_diffusion().ddim_levels(len(SHARES))
EXPECTED = {
    ("SD1.5", "trajectory cached"): (1.273, 1.045, 1.007),
    ("SD1.5", "first time"): (1.773, 1.170, 1.070),
    ("SD2", "trajectory cached"): (1.272, 1.049, 1.011),
    ("SD2", "first time"): (1.772, 1.174, 1.073),
    ("SDXL", "trajectory cached"): (1.233, 1.039, 1.007),
    ("SDXL", "first time"): (1.733, 1.164, 1.069),
}
"""The arithmetic's whole-run ratios to plain img2img at 1, 4 and 8 images with the attention kernel as it is: SD1.5 at
512x512, SD2 at 768x768, SDXL at 1024x1024."""
BATCHES = (1, 4, 8)
RUN_STEPS = (20, 30, 50)
"""For which the fast inversion rule's share of the calls is counted: its first call weighs more in a short run."""


class Run:
    """One configuration on the meta device: a step of each kind, one after another."""

    def __init__(self, unet: nn.Module, shape: Shape, batch: int) -> None:
        self.unet = unet
        self.batch = batch
        self.predict = ldm_noise_predictor(unet)
        self._latent = torch.empty(1, 4, shape.size // 8, shape.size // 8, device="meta")
        self._prompts = Prompts(*(shape.condition(1, device="meta") for _ in range(3)))

    def invert(self) -> float:
        """FLOPs of one step of the inversion of one picture."""
        with FlopCounterMode(display=False) as counter:
            invert(self.predict, self._latent, LEVELS[-1:], self._prompts.positive)
        return counter.get_total_flops()

    def plain(self) -> float:
        """FLOPs of one step of img2img."""
        with FlopCounterMode(display=False) as counter:
            sample(self.predict, self._start(), LEVELS[-1:], self._prompts, cfg_scale=7.5)
        return counter.get_total_flops()

    def ditail(self, shortcut: Shortcut, cache: BankCache) -> float:
        """FLOPs of an average step with injection; the cache keeps the features, and brings those of a run before."""
        latents = self._latent.expand(len(LEVELS) + 1, 1, -1, -1, -1)
        done = []
        with (
            Injection(self.unet, shortcut=shortcut, **WINDOWS) as injection,
            FlopCounterMode(display=False) as counter,
        ):
            sample(
                self.predict,
                self._start(),
                LEVELS,
                self._prompts,
                cfg_scale=7.5,
                trajectory=SourceTrajectory([Level.clean(), *LEVELS[::-1]], latents),
                injection=injection,
                slots=lambda level: cache.slot("run", level),
                on_step=lambda *_: done.append(counter.get_total_flops()),
            )
        steps = [after - before for before, after in pairwise([0, *done])]
        return sum(share * flops for share, flops in zip(SHARES, steps, strict=True))

    def _start(self) -> Tensor:
        return self._latent.expand(self.batch, -1, -1, -1)


def fast_share(steps: int) -> float:
    """UNet calls of the fast inversion rule, of those that a call for each step would be."""
    calls = []
    levels = NoiseSchedule.stable_diffusion().ddim_levels(steps)[::-1]

    def predict(latent: Tensor, level: Levels, cond: Condition) -> Tensor:
        calls.append(level)
        return latent

    invert(predict, torch.zeros(1, 1, 1, 1), levels, torch.zeros(1, 1, 1), rule=InversionRule.FAST)
    return len(calls) / steps


def ratios(unet: nn.Module, shape: Shape, batch: int) -> dict[str, float]:
    """Every mode's FLOPs in units of plain img2img's."""
    run, cache = Run(unet, shape, batch), BankCache(2**40)
    plain = run.plain()
    recorded = run.ditail(Shortcut.PROJECTIONS, cache)
    kept = run.ditail(Shortcut.PROJECTIONS, cache)
    halved = (recorded + kept) / 2  # of two steps one is recorded
    fast = {f"first time, fast inversion, {steps} steps": fast_share(steps) * run.invert() for steps in RUN_STEPS}
    return {
        "reference, trajectory cached": run.ditail(Shortcut.REFERENCE, BankCache(0)) / plain,
        "trajectory cached": recorded / plain,
        "first time": (recorded + run.invert()) / plain,
        **{mode: (recorded + inverted) / plain for mode, inverted in fast.items()},
        "first time, recorded every second step": (halved + run.invert()) / plain,
        "both, 20 steps": (halved + fast["first time, fast inversion, 20 steps"]) / plain,
        "features cached": kept / plain,
    }


def main() -> None:
    """Count, print, write."""
    rows = []
    for shape in vars(SHAPES).values():
        with torch.device("meta"):
            unet = shape.build()
        name = f"{shape.name} {shape.size}x{shape.size}"
        print(f"{name}: {Run(unet, shape, 1).invert() / 1e12:.4f} TFLOP a row", flush=True)
        for index, batch in enumerate(BATCHES):
            for mode, ratio in ratios(unet, shape, batch).items():
                expected = EXPECTED.get((shape.name, mode))
                rows.append((name, batch, mode, f"{ratio:.4f}", expected[index] if expected else ""))
                print("|", " | ".join(map(str, rows[-1])), "|", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("unet", "batch", "mode", "FLOPs / plain img2img", "arithmetic"), *rows])


if __name__ == "__main__":
    main()
