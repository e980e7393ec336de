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
from dataclasses import dataclass
from pathlib import Path

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

    profile: str
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


@torch.no_grad()
def probe(unet: nn.Module, scenes: Scenes, profiles: Sequence[str] = ("default", "full")) -> list[Finding]:
    """Try every replacement of every layer profile at every level."""
    findings = []
    for profile, (replaced, weights), timestep in itertools.product(profiles, REPLACED.items(), TIMESTEPS):
        change, carried = _replace(unet, scenes, profile, weights, timestep)
        findings.append(Finding(profile, replaced, timestep, change, carried))
    return findings


def _replace(
    unet: nn.Module, scenes: Scenes, profile: str, weights: tuple[float, float], timestep: int
) -> tuple[float, float]:
    """The change of the predicted clean latent, and how far towards the other scene's."""
    alpha_bar = alphas_cumprod()[timestep]
    count = len(scenes.clean)
    noise = torch.randn(scenes.clean[:1].shape, generator=torch.Generator().manual_seed(timestep))
    noisy = alpha_bar.sqrt() * scenes.clean + (1 - alpha_bar).sqrt() * noise
    times = torch.full((count,), timestep)

    def clean(context: Tensor) -> Tensor:
        return (noisy - (1 - alpha_bar).sqrt() * unet(noisy, times, context=context)) / alpha_bar.sqrt()

    own = clean(scenes.contexts)
    other = own.roll(1, 0)
    with Injection(
        unet,
        feature_window=EVERY_STEP,
        attention_window=EVERY_STEP,
        feature_weight=weights[0],
        attention_weight=weights[1],
        profile=profile,
    ) as injection:
        (bank,) = injection.record([0], lambda: unet(noisy.roll(1, 0), times, context=scenes.empty))
        with injection.replay(0, bank, range(count)):
            moved = clean(scenes.contexts) - own
    way = other - own
    change = moved.flatten(1).norm(dim=1) / own.flatten(1).norm(dim=1)
    carried = (moved * way).flatten(1).sum(1) / way.flatten(1).square().sum(1)
    return float(change.mean()), float(carried.mean())


def table(findings: Sequence[Finding]) -> str:
    """The findings as a Markdown table: a row a replacement, a column a level, `change / carried`."""
    lines = [
        "| layers | replaced | " + " | ".join(f"level {t}" for t in TIMESTEPS) + " |",
        "| --- | --- |" + " --- |" * len(TIMESTEPS),
    ]
    for (profile, replaced), group in itertools.groupby(findings, lambda f: (f.profile, f.replaced)):
        cells = " | ".join(f"{f.change:.3f} / {f.carried:+.3f}" for f in group)
        lines.append(f"| {profile} | {replaced} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Probe one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, default=SHIPPED)
    parser.add_argument("--unet", default="base", choices=UNETS)
    parser.add_argument("--style", default=CHECKPOINT_STYLES[0], choices=CHECKPOINT_STYLES, help="of the scenes")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models = load(options.parts, options.unet, options.tokenizer)
    scenes = Scenes.held_out(models, options.style, options.unet == "base", options.count)
    print(table(probe(models.unet, scenes)))


if __name__ == "__main__":
    main()
