"""What ``bench/gpu.py`` measures: equality, seconds and memory, recordings ahead and in main memory, moves."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from bench.equality import errors, injection_effect, precision_error
from bench.shapes import SHAPES, Shape
from bench.speed import HEADER, MEMORY_HEADER, measure
from bench.steps import Bench, random_unet
from bench.three_rows import PRECISIONS, Case
from ditail_ext.core import PrefetchingCache, Shortcut
from ditail_ext.standalone.model import Compute

if TYPE_CHECKING:
    from bench.gpu import Report, Row

GIB = 2**30
AHEAD = (2, 4, 8)


class _Part(NamedTuple):
    title: str
    seconds: float
    measure: Callable[[], tuple[Row, Sequence[Row]]]


class Parts:
    """The parts of one run, and what follows from them."""

    def __init__(self, report: Report) -> None:
        self._device = report.device
        self._gpu = report.is_gpu
        self._compute = Compute(report.device, torch.float16 if report.is_gpu else torch.float32)
        self._rounds = 3 if report.is_gpu else 1
        self._shortcuts = list(Shortcut) if report.is_gpu else [Shortcut.PROJECTIONS]
        self._speed: dict[tuple[str, str, str], float] = {}
        self._prefetch: list[Row] = []

    def plan(self) -> list[_Part]:
        """The parts in order, with the seconds that each may want."""
        batches = (1, 4, 8) if self._gpu else (1,)
        shapes = {"SD1.5": SHAPES.sd15, "SDXL": SHAPES.sdxl}
        found = [_Part("equality", 60.0, self.equality)]
        for name, shape in shapes.items():
            shape = shape if self._gpu else shape.narrow()
            found += [_Part(f"speed {name} batch {n}", 15.0, partial(self.speed, shape, n)) for n in batches]
            found.append(_Part(f"prefetch {name}", 15.0, partial(self.prefetch, shape)))
            found.append(_Part(f"moving {name}", 15.0, partial(self.moving, shape)))
        return found

    def equality(self) -> tuple[Row, Sequence[Row]]:
        """Each fast path against the three-row method in every precision, the worst of the ways to keep."""
        rows: list[Row] = []
        for shape in vars(SHAPES).values() if self._gpu else [SHAPES.sd15]:
            for dtype in PRECISIONS if self._gpu else PRECISIONS[:1]:
                case = Case(shape, dtype, 1, 1, False, str(self._device))
                found = errors(case, self._shortcuts)
                for shortcut in self._shortcuts:
                    worst = max(error for path, error in found.items() if path[0] == shortcut.value)
                    figures = worst, precision_error(case), injection_effect(case)
                    name = str(dtype).removeprefix("torch.")
                    rows.append((shape.name, name, shortcut.value, *(f"{figure:.1e}" for figure in figures)))
        return ("shape", "precision", "shortcut", "relative error", "precision alone", "effect of injection"), rows

    def speed(self, shape: Shape, batch: int) -> tuple[Row, Sequence[Row]]:
        """Plain, three rows, first, trajectory and features kept, and several levels recorded at once."""
        shortcuts = [Shortcut.PROJECTIONS.value]
        args = argparse.Namespace(batch=[batch], rounds=self._rounds, shortcut=shortcuts, ahead=list(AHEAD))
        rows = list(measure(self._compute, shape, args))
        self._speed.update({(shape.name, str(batch), row[3]): float(row[4]) for row in rows})
        return (*HEADER, *MEMORY_HEADER), rows

    def prefetch(self, shape: Shape) -> tuple[Row, Sequence[Row]]:
        """Steps whose features lie on the device, or in main memory and are fetched a step ahead."""
        unet = random_unet(shape, self._compute)
        bench = Bench(self._compute, shape, 1, unet)
        rows: list[Row] = []
        for name, budget in (("on the device", 2**40), ("in main memory, prefetched", 0)):
            cache = PrefetchingCache(budget, 2**40)
            record = [bench.step("both", Shortcut.PROJECTIONS, cache, f"step {index}") for index in range(4)]
            for step in record:
                step()
            seconds = [bench.timed(step) for _ in range(self._rounds) for step in record]
            rows.append((shape.name, name, f"{statistics.median(seconds):.4f}"))
        self._prefetch += rows
        return ("shape", "features", "seconds a step"), rows

    def moving(self, shape: Shape) -> tuple[Row, Sequence[Row]]:
        """A UNet from main memory to the device and back, and back into page-locked memory."""
        unet = random_unet(shape, self._compute)
        gib = sum(weight.numel() * weight.element_size() for weight in unet.parameters()) / GIB
        rows = []
        for name, move in (
            ("to main memory", partial(unet.to, "cpu")),
            ("to the device", partial(unet.to, self._device)),
        ):
            seconds = self._timed(move)
            rows.append((shape.name, name, f"{gib:.2f}", f"{seconds:.3f}"))
        if self._gpu:
            pinned = _pinned(unet)
            seconds = self._timed(lambda: [weight.to(self._device, non_blocking=True) for weight in pinned])
            rows.append((shape.name, "to the device, page-locked", f"{gib:.2f}", f"{seconds:.3f}"))
        return ("shape", "move", "GiB", "seconds"), rows

    def choices(self) -> list[str]:
        """What the figures would choose as defaults."""
        return [*self._ahead_choices(), *self._prefetch_choices()]

    def _ahead_choices(self) -> list[str]:
        said = []
        for name, batch in sorted({key[:2] for key in self._speed}):
            one = self._speed[name, batch, "trajectory cached, projections"]
            several = {
                n: self._speed[name, batch, f"trajectory cached, {n} levels recorded at once, projections"]
                for n in AHEAD
            }
            best = min(several, key=lambda n: several[n])
            chosen = best if several[best] < 0.98 * one else 1
            said.append(
                f"{name}, batch {batch}: record {chosen} level(s) a call (one {one:.2f}, "
                f"{', '.join(f'{n}: {ratio:.2f}' for n, ratio in several.items())} times plain)"
            )
        return said

    def _prefetch_choices(self) -> list[str]:
        seconds = {(shape, where): float(each) for shape, where, each in self._prefetch}
        said = []
        for shape in dict.fromkeys(shape for shape, _ in seconds):
            ratio = seconds[shape, "in main memory, prefetched"] / seconds[shape, "on the device"]
            verdict = "as good as on the device" if ratio < 1.05 else "only where the device is full"
            said.append(f"{shape}: features in main memory take {ratio:.2f} times as long: {verdict}")
        return said

    def _timed(self, function: Callable[[], object]) -> float:
        self._synchronise()
        started = time.perf_counter()
        function()
        self._synchronise()
        return time.perf_counter() - started

    def _synchronise(self) -> None:
        if self._gpu:
            torch.cuda.synchronize()


def _pinned(unet: nn.Module) -> list[torch.Tensor]:
    return [weight.detach().cpu().pin_memory() for weight in unet.parameters()]
