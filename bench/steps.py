"""One step of a run in every mode, on random UNets of the models' own sizes: what ``bench/speed.py`` times."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.shapes import Shape
from ditail_ext.core import (
    BankCache,
    Condition,
    Injection,
    Levels,
    NoiseSchedule,
    PrefetchingCache,
    Prompts,
    Shortcut,
    SourcePass,
    SourceRecorder,
    Window,
    ldm_noise_predictor,
)
from ditail_ext.core.levels.conditioning import expand_rows, join_rows
from ditail_ext.standalone.model import Compute

LEVEL = NoiseSchedule.stable_diffusion().at_timestep(601)
PHASES = {"both": (0.5, Window(0, 1), Window(0, 1)), "feature": (0.3, Window(0, 1), Window(0, 0))}
"""Share of the steps, feature window, attention window; the remaining steps are plain."""
PLAIN_SHARE = 0.2
CFG_ROWS = 2
STEPS = 50
"""Of the run for which rows and kept memory are given."""


class Bench:
    """One UNet on one device, and the steps to be measured."""

    def __init__(self, compute: Compute, shape: Shape, batch: int, unet: nn.Module) -> None:
        self.unet = unet
        self.batch = batch
        self.device = compute.device
        self._compute = compute
        make: dict[str, Any] = {"device": compute.device}
        self._source = torch.randn(1, 4, shape.size // 8, shape.size // 8, **make)
        self._rows = torch.randn(batch, 4, shape.size // 8, shape.size // 8, **make)
        self._prompts = Prompts(*(shape.condition(1, **make) for _ in range(3)))
        self._pair = join_rows([expand_rows(cond, batch) for cond in (self._prompts.positive, self._prompts.negative)])
        self._predict = ldm_noise_predictor(unet, shape.prediction)

    def predict(self, latent: Tensor, level: Levels, cond: Condition) -> Tensor:
        """The UNet as the embedded host calls it."""
        half = self._compute.dtype != torch.float32
        with torch.autocast(self.device.type, self._compute.dtype) if half else nullcontext():
            return self._predict(latent, level, cond)

    def timed(self, function: Callable[[], object]) -> float:
        """Seconds of a call, the device synchronised."""
        self._synchronise()
        started = time.perf_counter()
        function()
        self._synchronise()
        return time.perf_counter() - started

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def generated(self) -> Tensor:
        """The host's call of a step: conditional and unconditional rows together."""
        return self.predict(torch.cat([self._rows] * CFG_ROWS), LEVEL, self._pair)

    def inverted(self) -> Tensor:
        """One inversion step."""
        return self.predict(self._source, LEVEL, self._prompts.positive)

    def three_rows(self) -> Tensor:
        """A step as the authors do it: every generated row's triple has a source row, in all steps."""
        rows = torch.cat([self._rows] * (CFG_ROWS + 1))
        cond = join_rows([self._pair, expand_rows(self._prompts.empty, self.batch)])
        return self.predict(rows, LEVEL, cond)

    def step(
        self, phase: str, shortcut: Shortcut, cache: BankCache | PrefetchingCache | None, place: str = ""
    ) -> Callable[[], None]:
        """A step of Ditail in a phase, its features from the cache if there is one; ``place`` tells steps apart."""
        _, feature, attention = PHASES[phase]

        def run() -> None:
            windows = {"feature_window": feature, "attention_window": attention}
            with Injection(self.unet, shortcut=shortcut, **windows) as injection:
                slots = None if cache is None else partial(cache.slot, phase)
                recorder = SourceRecorder(injection, self._pass_source, slots)
                bank = recorder.bank(SourcePass(0, LEVEL, self._source, place=place or None))
                with injection.replay(0, bank):
                    self.generated()

        return run

    def ahead(self, phase: str, levels: int) -> Callable[[], None]:
        """The record pass of several levels of a phase at once."""
        _, feature, attention = PHASES[phase]
        open_at = {"feature_window": feature, "attention_window": attention}
        windows = {name: Window(0, levels * window.stop) for name, window in open_at.items()}
        passes = [SourcePass(step, LEVEL, self._source, place=step) for step in range(levels)]

        def run() -> None:
            with Injection(self.unet, **windows) as injection:
                recorder = SourceRecorder(injection, self._pass_source, None, lambda latents: levels)
                recorder.bank(passes[0], passes[1:])

        return run

    def _pass_source(self, rows: Tensor, level: Levels) -> None:
        self.predict(rows, level, expand_rows(self._prompts.empty, rows.shape[0]))

    @property
    def trajectory_bytes(self) -> int:
        """Of one source picture and 50 steps."""
        return (STEPS + 1) * self._source.numel() * 4


def random_unet(shape: Shape, compute: Compute) -> nn.Module:
    """Random weights on the device; normalisation stays in float32, as the hosts have it."""
    with torch.device("meta"):
        unet = shape.build()
    for module in unet.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(compute.dtype)
    torch.manual_seed(0)
    unet = unet.to_empty(device=compute.device)
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.02)
    return unet
