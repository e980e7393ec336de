"""Counted FLOPs of whole runs against plain img2img: ``python -m bench.flops``.

Full-size UNets on torch's meta device: every convolution and matrix product of the very code that runs is counted,
none is computed. Ten steps with the default ratios have the phases of any number of steps in the same proportion.
VAE and text encoder are left out; plain img2img is taken at denoising strength 1, with all steps. Writes
``bench/results/flops.csv``.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ditail_ext.core import (
    BankShelf,
    Injection,
    Level,
    NoiseSchedule,
    Prompts,
    Shortcut,
    SourceTrajectory,
    Window,
    invert,
    sample,
)
from ditail_ext.standalone.architecture import SD1_CONFIG, build_unet

RESULTS = Path(__file__).parent / "results" / "flops.csv"
STEPS = 10
LEVELS = NoiseSchedule.stable_diffusion().ddim_levels(STEPS)
EXPECTED = {
    ("trajectory cached", 1): 1.254,
    ("trajectory cached", 4): 1.023,
    ("trajectory cached", 8): 0.985,
    ("features cached", 1): 0.958,
    ("features cached", 4): 0.949,
    ("features cached", 8): 0.948,
}
"""The arithmetic's whole-run ratios to plain img2img, SD1.5 at 512x512, one map for all rows."""


class Run:
    """One configuration on the meta device."""

    def __init__(self, unet: nn.Module, size: int, batch: int, context: int = 768) -> None:
        self.unet = unet
        self.batch = batch
        self._latent = torch.empty(1, 4, size // 8, size // 8, device="meta")
        self.prompts = Prompts(*(torch.empty(1, 77, context, device="meta") for _ in range(3)))

    def predict(self, latent: Tensor, level: Level, cond: Any) -> Tensor:
        """The UNet's output; its numbers do not exist."""
        timesteps = torch.full((latent.shape[0],), level.timestep, device="meta")
        return self.unet(latent, timesteps=timesteps, context=cond)

    def invert(self) -> SourceTrajectory:
        """The inversion of one picture."""
        return invert(self.predict, self._latent, LEVELS[::-1], self.prompts.positive)

    def plain(self) -> None:
        """Img2img with all steps."""
        sample(self.predict, self._start(), LEVELS, self.prompts, cfg_scale=7.5)

    def ditail(self, shortcut: Shortcut, shelf: BankShelf | None = None) -> None:
        """Sampling with injection; ``shelf`` keeps the features, and brings those of a run before."""
        trajectory = SourceTrajectory([Level.clean(), *LEVELS[::-1]], self._latent.expand(STEPS + 1, 1, -1, -1, -1))
        with self.injection(shortcut) as injection:
            sample(
                self.predict,
                self._start(),
                LEVELS,
                self.prompts,
                cfg_scale=7.5,
                trajectory=trajectory,
                injection=injection,
                slots=None if shelf is None else lambda level: shelf.slot("run", level),
            )

    def injection(self, shortcut: Shortcut) -> Injection:
        """The default windows."""
        windows = {"feature_window": Window.from_ratio(0.8, STEPS), "attention_window": Window.from_ratio(0.5, STEPS)}
        return Injection(self.unet, shortcut=shortcut, **windows)

    def _start(self) -> Tensor:
        return self._latent.expand(self.batch, -1, -1, -1)


def count(function: Callable[[], object]) -> int:
    """Floating-point operations of a call, two a multiplication with addition."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def ratios(unet: nn.Module, size: int, batch: int) -> dict[str, float]:
    """Every mode's FLOPs in units of plain img2img's."""
    run = Run(unet, size, batch)
    plain = count(run.plain)
    inversion = count(run.invert)
    shared = count(lambda: run.ditail(Shortcut.SHARED_MAP))
    shelf = BankShelf(2**40)
    run.ditail(Shortcut.SHARED_MAP, shelf)
    return {
        "reference, trajectory cached": count(lambda: run.ditail(Shortcut.REFERENCE)) / plain,
        "projections, trajectory cached": count(lambda: run.ditail(Shortcut.PROJECTIONS)) / plain,
        "trajectory cached": shared / plain,
        "first time": (shared + inversion) / plain,
        "features cached": count(lambda: run.ditail(Shortcut.SHARED_MAP, shelf)) / plain,
    }


def main() -> None:
    """Count, print, write."""
    with torch.device("meta"):
        unet = build_unet(SD1_CONFIG)
    rows = []
    for batch in (1, 4, 8):
        for mode, ratio in ratios(unet, 512, batch).items():
            expected = EXPECTED.get((mode, batch))
            rows.append(("SD1.5 512x512", batch, mode, f"{ratio:.4f}", expected or ""))
            print("|", " | ".join(map(str, rows[-1])), "|", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("unet", "batch", "mode", "FLOPs / plain img2img", "arithmetic"), *rows])


if __name__ == "__main__":
    main()
