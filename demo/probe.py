"""Which layers carry the layout? A short probe of one UNet, for every few hundred steps of a training.

Two scenes with the same noise, at several noise levels. What the first scene's pass computes at the method's sites is
replaced by what the second scene's computes there, and the predicted clean latent is compared with the two that are
predicted without: *change* is how far it moves in units of its own norm, *carried* how far it goes towards the second
scene's (0: not at all, 1: all the way). On a UNet whose layers say nothing both are 0.

`python -m demo.probe --tokenizer DIR` prints a table for a shipped checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from demo.nets import alphas_cumprod
from demo.parts import SHIPPED, UNETS, Models, load
from demo.styles import CHECKPOINT_STYLES, draw
from demo.train.unet import SIDE
from demo.train.vae import to_tensor
from demo.world import caption, make_scene
from ditail_ext.core import Injection, Window

TIMESTEPS = (900, 700, 500, 300)
FIRST_SCENE = 40_000  # held out: trainings draw from a million on
REPLACED = {"feature": (1.0, 0.0), "q and k": (0.0, 1.0), "both": (1.0, 1.0)}
EVERY_STEP = Window.from_ratio(1.0, 1)


@dataclass(frozen=True)
class Finding:
    """What one replacement did at one noise level, mean over the scenes."""

    layers: str
    replaced: str
    timestep: int
    change: float
    carried: float


@dataclass(frozen=True)
class Scenes:
    """Clean scaled latents (n, 4, h, w) with their captions' embeddings, and the empty caption's (n, 77, d)."""

    clean: Tensor
    contexts: Tensor
    empty: Tensor

    @classmethod
    @torch.no_grad()
    def held_out(cls, models: Models, style: str, style_word: bool, count: int, side: int = SIDE) -> Scenes:
        """Draw and encode; with `style_word` the captions name the style, as the base needs it."""
        scenes = [make_scene(FIRST_SCENE + k) for k in range(count)]
        drawn = np.stack([draw(scene, style, side) for scene in scenes])
        clean = torch.cat([models.vae.encode(row[None])[0] for row in to_tensor(drawn)]) * models.scale_factor
        texts = [caption(scene, style if style_word else None) for scene in scenes]
        empty = models.text(models.vocabulary.batch([""])).expand(count, -1, -1)
        return cls(clean, models.text(models.vocabulary.batch(texts)), empty)


@dataclass(frozen=True)
class _Look:
    """The scenes at one noise level, all with the same noise."""

    unet: nn.Module
    scenes: Scenes
    noisy: Tensor
    timestep: int

    @classmethod
    def at(cls, unet: nn.Module, scenes: Scenes, timestep: int) -> _Look:
        alpha_bar = alphas_cumprod()[timestep]
        noise = torch.randn(scenes.clean[:1].shape, generator=torch.Generator().manual_seed(timestep))
        return cls(unet, scenes, alpha_bar.sqrt() * scenes.clean + (1 - alpha_bar).sqrt() * noise, timestep)

    def noise(self, noisy: Tensor, context: Tensor) -> Tensor:
        """What the UNet says is noise."""
        return self.unet(noisy, torch.full((len(noisy),), self.timestep), context=context)

    def clean(self) -> Tensor:
        """The predicted clean latents (n, 4, h, w), each with its own caption."""
        alpha_bar = alphas_cumprod()[self.timestep]
        said = self.noise(self.noisy, self.scenes.contexts)
        return (self.noisy - (1 - alpha_bar).sqrt() * said) / alpha_bar.sqrt()

    def finding(self, layers: str, replaced: str, own: Tensor, changed: Tensor) -> Finding:
        """How far the prediction has moved from `own`, and how far towards the other scene's."""
        moved, way = changed - own, own.roll(1, 0) - own
        change = moved.flatten(1).norm(dim=1) / own.flatten(1).norm(dim=1)
        carried = (moved * way).flatten(1).sum(1) / way.flatten(1).square().sum(1)
        return Finding(layers, replaced, self.timestep, float(change.mean()), float(carried.mean()))


@torch.no_grad()
def probe(unet: nn.Module, scenes: Scenes, profiles: Sequence[str] = ("default", "full")) -> list[Finding]:
    """Try every replacement of every layer profile at every level, as the method makes it (empty prompt)."""
    findings = []
    for profile, (replaced, weights), timestep in itertools.product(profiles, REPLACED.items(), TIMESTEPS):
        look = _Look.at(unet, scenes, timestep)
        own = look.clean()
        with Injection(
            unet,
            feature_window=EVERY_STEP,
            attention_window=EVERY_STEP,
            feature_weight=weights[0],
            attention_weight=weights[1],
            profile=profile,
        ) as injection:
            (bank,) = injection.record([0], partial(look.noise, look.noisy.roll(1, 0), scenes.empty))
            with injection.replay(0, bank, range(len(own))):
                changed = look.clean()
        findings.append(look.finding(profile, replaced, own, changed))
    return findings


@torch.no_grad()
def blocks(unet: Any, scenes: Scenes) -> list[Finding]:
    """Replace what a whole block of the decoder puts out, or the skips it is given: where is the layout at all?"""
    findings = []
    every = [("output of block", (k,)) for k in range(len(unet.output_blocks) - 1)]
    every += [("skips of blocks", range(first, first + 3)) for first in range(0, len(unet.output_blocks), 3)]
    for (what, numbers), timestep in itertools.product(every, TIMESTEPS):
        look = _Look.at(unet, scenes, timestep)
        own = look.clean()
        with ExitStack() as stack:
            for number in numbers:
                block = unet.output_blocks[number]
                hook = (
                    block.register_forward_hook(_other_output)
                    if what.startswith("output")
                    else block.register_forward_pre_hook(partial(_other_skip, _width(unet, number)))
                )
                stack.callback(hook.remove)
            changed = look.clean()
        findings.append(look.finding(what, "-".join(map(str, sorted({numbers[0], numbers[-1]}))), own, changed))
    return findings


def _width(unet: Any, number: int) -> int:
    """Channels of the skip that a decoder block is given, which are the last of its input."""
    encoder = unet.input_blocks[len(unet.input_blocks) - 1 - number]
    last = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)][-1]
    return last.out_channels


def _other_output(block: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.roll(1, 0)


def _other_skip(width: int, block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    below, skip = args[0][:, :-width], args[0][:, -width:]
    return (torch.cat([below, skip.roll(1, 0)], 1), *args[1:])


def table(findings: Sequence[Finding]) -> str:
    """The findings as a Markdown table: a row a replacement, a column a level, `change / carried`."""
    lines = [
        "| layers | replaced | " + " | ".join(f"level {t}" for t in TIMESTEPS) + " |",
        "| --- | --- |" + " --- |" * len(TIMESTEPS),
    ]
    for (layers, replaced), group in itertools.groupby(findings, lambda f: (f.layers, f.replaced)):
        cells = " | ".join(f"{f.change:.3f} / {f.carried:+.3f}" for f in group)
        lines.append(f"| {layers} | {replaced} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Probe one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, default=SHIPPED)
    parser.add_argument("--unet", default="base", choices=UNETS)
    parser.add_argument("--style", default=CHECKPOINT_STYLES[0], choices=CHECKPOINT_STYLES, help="of the scenes")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models = load(options.parts, options.unet, options.tokenizer)
    scenes = Scenes.held_out(models, options.style, options.unet == "base", options.count)
    print(table([*probe(models.unet, scenes), *blocks(models.unet, scenes)]))


if __name__ == "__main__":
    main()
