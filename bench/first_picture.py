"""Whole first pictures, as many steps as people take: ``python -m bench.first_picture``.

    python -m bench.first_picture [--steps 20 30 50] [--size 512] [--rounds 3] [--width 320] [--device auto]

Inversion and sampling along DDIM's levels, with guidance and the default windows, on a random UNet of SD1.5's layout,
in turn with plain img2img at denoising strength 1: by the authors' rule, by the fast one, with the features recorded
at every second step, and with both. Seconds are medians of ratios to plain img2img's within a round, with the least
and the greatest; VAE, text encoder and loading are left out. Writes ``bench/results/first-picture-DEVICE.csv``.
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
from torch import Tensor

from bench.shapes import SHAPES, Shape
from bench.steps import random_unet
from ditail_ext.core import (
    Condition,
    Injection,
    InversionRule,
    Levels,
    NoiseSchedule,
    Prompts,
    Shortcut,
    Window,
    invert,
    ldm_noise_predictor,
    sample,
)
from ditail_ext.settings import Settings
from ditail_ext.standalone.model import Compute

RESULTS = Path(__file__).parent / "results"
WAYS = {
    "first picture, authors' rule": (InversionRule.AUTHORS, 1),
    "fast inversion": (InversionRule.FAST, 1),
    "recorded every second step": (InversionRule.AUTHORS, 2),
    "both": (InversionRule.FAST, 2),
}
PLAIN = "plain img2img"


class Pictures:
    """One UNet that is source and target, and the pictures made with it; counts its calls and their rows."""

    def __init__(self, compute: Compute, shape: Shape, steps: int) -> None:
        make = {"device": compute.device}
        generator = torch.Generator(compute.device).manual_seed(0)
        self._unet = random_unet(shape, compute)
        self._predict = ldm_noise_predictor(self._unet, shape.prediction)
        self._latent = torch.randn(1, 4, shape.size // 8, shape.size // 8, generator=generator, **make)
        self._prompts = Prompts(*(shape.condition(1, generator=generator, **make) for _ in range(3)))
        self._levels = NoiseSchedule.stable_diffusion().ddim_levels(steps)
        self._settings = Settings(enabled=True)
        self._compute = compute
        self.calls = self.rows = 0

    def plain(self) -> Tensor:
        """Sampling alone."""
        return sample(self._count, self._latent, self._levels, self._prompts, cfg_scale=7.5)

    def ditail(self, rule: InversionRule, record_every: int) -> Tensor:
        """Inversion, and sampling with its features recorded on the way."""
        steps, settings = len(self._levels), self._settings
        found = invert(self._count, self._latent, self._levels[::-1], self._prompts.positive, rule=rule)
        with Injection(
            self._unet,
            feature_window=Window.from_ratio(settings.feature_ratio, steps),
            attention_window=Window.from_ratio(settings.attention_ratio, steps),
            shortcut=Shortcut.PROJECTIONS,
            record_every=record_every,
        ) as injection:
            given = {"trajectory": found, "injection": injection}
            return sample(self._count, found.start, self._levels, self._prompts, cfg_scale=7.5, **given)

    def timed(self, make: Callable[[], Tensor]) -> float:
        """Seconds of a picture, the device synchronised; its calls and rows are counted from 0."""
        self.calls = self.rows = 0
        started = time.perf_counter()
        make()
        if self._compute.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    def _count(self, latent: Tensor, level: Levels, cond: Condition) -> Tensor:
        self.calls += 1
        self.rows += latent.shape[0]
        with torch.autocast(self._compute.device.type, enabled=self._compute.dtype != torch.float32):
            return self._predict(latent, level, cond)


def measure(compute: Compute, shape: Shape, steps: int, rounds: int) -> list[tuple[str, ...]]:
    """A line for each way: UNet calls, rows, seconds, and the ratio to plain img2img."""
    pictures = Pictures(compute, shape, steps)
    made = {PLAIN: pictures.plain}
    made |= {name: lambda way=way: pictures.ditail(*way) for name, way in WAYS.items()}
    pictures.timed(pictures.plain)  # to warm up
    seconds: dict[str, list[float]] = {name: [] for name in made}
    counted: dict[str, tuple[int, int]] = {}
    for _ in range(rounds):
        for name, make in made.items():
            seconds[name].append(pictures.timed(make))
            counted[name] = pictures.calls, pictures.rows
    lines = []
    for name, found in seconds.items():
        ratios = [one / plain for one, plain in zip(found, seconds[PLAIN], strict=True)]
        figures = (statistics.median(ratios), min(ratios), max(ratios))
        numbers = (
            *map(str, counted[name]),
            f"{statistics.median(found):.2f}",
            *(f"{figure:.2f}" for figure in figures),
        )
        lines.append((str(steps), name, *numbers))
    return lines


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 30, 50])
    parser.add_argument("--size", type=int, default=512, help="pixels of a side")
    parser.add_argument("--width", type=int, default=320, help="the UNet's channels; SD1.5 has 320")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    compute = Compute.choose(args.device, "auto")
    shape = (SHAPES.sd15 if args.width == 320 else SHAPES.sd15.narrow(args.width, 64)).at(args.size)
    name = torch.cuda.get_device_name() if compute.device.type == "cuda" else platform.processor() or "cpu"
    header = ("steps", "way", "UNet calls", "rows", "seconds", "times plain", "least", "greatest")
    lines = [line for steps in args.steps for line in measure(compute, shape, steps, args.rounds)]
    for line in (header, *lines):
        print("|", " | ".join(line), "|", flush=True)
    print(f"{name}, {torch.get_num_threads()} threads, {args.width} channels, {args.size}x{args.size}")
    with (RESULTS / f"first-picture-{compute.device.type}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *lines])


if __name__ == "__main__":
    main()
