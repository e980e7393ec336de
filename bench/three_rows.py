"""The yardstick: the method as it is written down, in narrow UNets of every family's layout.

Each UNet call has the source's rows, the conditional and the unconditional ones, and the layers' outputs are copied
from the first to the others. It is spelt out here once more, with hooks of its own and layers named by hand, so that
it shares nothing with the code it measures but the UNet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.shapes import Shape
from ditail_ext.core import (
    Condition,
    Level,
    Levels,
    NoiseSchedule,
    Prompts,
    SourceTrajectory,
    expand_rows,
    join_rows,
    map_tensors,
    timesteps_of,
    to_epsilon,
)

STEPS, FEATURE_STEPS, ATTENTION_STEPS = 3, 3, 2
CFG_SCALE = 3.0
LEVELS = NoiseSchedule.stable_diffusion().ddim_levels(STEPS)
FEATURE_BLOCK = {"SD1.5": 4, "SD2": 4, "SDXL": 0}
ATTENTION_BLOCKS = {"SD1.5": range(4, 12), "SD2": range(4, 12), "SDXL": range(3)}
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)
BATCHES = ((1, 1), (1, 3), (3, 3))
"""Source pictures and generated ones."""


@dataclass(frozen=True)
class Picture:
    """One generation's own part: where it starts and what it is told."""

    start: Tensor
    prompts: Prompts


@dataclass(frozen=True)
class Case:
    """One configuration in which fast paths are compared with the three-row method."""

    shape: Shape
    dtype: torch.dtype
    sources: int
    images: int
    masked: bool
    device: str = "cpu"

    @cached_property
    def unet(self) -> nn.Module:
        """The target's UNet; one for all cases of a shape and precision."""
        return narrow_unet(self.shape, self.dtype, self.device)

    @cached_property
    def latent_size(self) -> tuple[int, int]:
        """Not square, so that height and width cannot be mixed up."""
        side = self.shape.narrow().size // 8
        return side, side * 3 // 2

    @cached_property
    def mask(self) -> Tensor | None:
        """(sources, 1, h, w): a part kept, a part injected, a soft edge between, elsewhere for each source."""
        if not self.masked:
            return None
        edge = torch.linspace(-1, 2, self.latent_size[1]).clamp(0, 1).expand(1, 1, *self.latent_size)
        rolled = [edge.roll(3 * index, dims=-1) for index in range(self.sources)]
        return torch.cat(rolled).to(self.device)

    @cached_property
    def trajectory(self) -> SourceTrajectory:
        """The sources' latents; any will do."""
        clean, noise = (self._random(self.sources, 4, *self.latent_size, seed=seed) for seed in (1, 2))
        levels = [Level.clean(), *LEVELS[::-1]]
        return SourceTrajectory(levels, torch.stack([level.signal * clean + level.noise * noise for level in levels]))

    def picture(self, seed: int) -> Picture:
        """One of several generations from the same sources."""
        start = self._random(self.images, 4, *self.latent_size, seed=seed)
        own = [self._condition(self.images, seed=seed + 1), self._condition(1, seed=seed + 2)]
        return Picture(start, Prompts(*own, empty=self._condition(1, seed=3)))

    @torch.no_grad()
    def predict(self, latent: Tensor, level: Levels, cond: Condition) -> Tensor:
        """The UNet as the hosts call it: under autocast in half precision; float32 comes back."""
        timesteps = timesteps_of(level, latent)
        parts = cond if isinstance(cond, dict) else {"crossattn": cond}
        half = self.dtype != torch.float32
        with torch.autocast(latent.device.type, self.dtype) if half else nullcontext():
            output = self.unet(latent, timesteps=timesteps, context=parts["crossattn"], y=parts.get("vector"))
        return to_epsilon(self.shape.prediction, output.float(), latent, level)

    def predict_apart(self, latent: Tensor, level: Levels, cond: Condition) -> Tensor:
        """The same with a UNet call for each prompt, as hosts do that save memory; the source's rows stay together."""
        if latent.shape[0] != 2 * self.images:
            return self.predict(latent, level, cond)
        halves = [map_tensors(cond, lambda rows, part=part: rows.chunk(2)[part]) for part in range(2)]
        calls = zip(latent.chunk(2), halves, strict=True)
        return torch.cat([self.predict(rows, level, half) for rows, half in calls])

    def _condition(self, rows: int, seed: int) -> Condition:
        cond = self.shape.narrow().condition(rows, generator=torch.Generator().manual_seed(seed))
        return {k: v.to(self.device) for k, v in cond.items()} if isinstance(cond, dict) else cond.to(self.device)

    def _random(self, *size: int, seed: int) -> Tensor:
        return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(self.device)


@cache
def narrow_unet(shape: Shape, dtype: torch.dtype, device: str) -> nn.Module:
    """The same random weights in every precision; normalisation stays in float32, as the hosts have it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = shape.narrow().build()
        for parameter in unet.parameters():
            if parameter.ndim > 1 and not parameter.any():  # ldm starts some layers at zero: they would hide all
                parameter.normal_(std=0.1)
    for module in unet.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(dtype)
    return unet.to(device)


@torch.no_grad()
def three_rows(case: Case, picture: Picture) -> Tensor:
    """The final latents, every UNet call with the source's rows first."""
    latent, count = picture.start, case.images
    prompts = [
        expand_rows(picture.prompts.empty, case.sources),
        expand_rows(picture.prompts.positive, count),
        expand_rows(picture.prompts.negative, count),
    ]
    cond = join_rows(prompts)
    for step, level in enumerate(LEVELS):
        rows = torch.cat([case.trajectory.latents[-1 - step], latent, latent])
        with ExitStack() as stack:
            for module in _injected(case, step):
                handle = module.register_forward_hook(lambda _, __, output: _copied(case, output))
                stack.callback(handle.remove)
            _, positive, negative = case.predict(rows, level, cond).split([case.sources, count, count])
        noise = negative + CFG_SCALE * (positive - negative)
        clean = (latent - (1 - level.alpha_bar) ** 0.5 * noise) / level.alpha_bar**0.5
        below = LEVELS[step + 1].alpha_bar if step + 1 < STEPS else 1.0
        latent = below**0.5 * clean + (1 - below) ** 0.5 * noise
    return latent


def _injected(case: Case, step: int) -> Iterator[nn.Module]:
    """The layers whose output is copied at a step."""
    decoder: Any = case.unet.output_blocks
    if step < FEATURE_STEPS:
        yield decoder[FEATURE_BLOCK[case.shape.name]][0].out_layers[-1]
    if step < ATTENTION_STEPS:
        for block in ATTENTION_BLOCKS[case.shape.name]:
            for layer in decoder[block][1].transformer_blocks:
                yield from (layer.attn1.to_q, layer.attn1.to_k)


def _copied(case: Case, output: Tensor) -> Tensor:
    """The source's rows into the others: each image from its own, as far as the mask says."""
    sources = [image if case.sources > 1 else 0 for image in range(case.images)] * 2
    theirs, own = output[sources], output[case.sources :]
    if case.mask is not None:
        mask = _mask_for(case, output)[sources if case.sources > 1 else [0] * len(sources)].to(output)
        theirs = mask * theirs + (1 - mask) * own
    return torch.cat([output[: case.sources], theirs])


def _mask_for(case: Case, output: Tensor) -> Tensor:
    """The mask at a layer's size: planes (S, 1, h, w), or tokens (S, n, 1)."""
    assert case.mask is not None
    height, width = case.latent_size
    if output.ndim == 4:
        return F.adaptive_avg_pool2d(case.mask, (output.shape[-2], output.shape[-1]))
    factor = round((height * width / output.shape[1]) ** 0.5)
    return F.adaptive_avg_pool2d(case.mask, (height // factor, width // factor)).flatten(2).transpose(1, 2)
