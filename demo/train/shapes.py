"""A fine-tune once more, where it is decided what is drawn.

A thing's shape is decided in what fine-tunes train and not in the bottom (docs/quality-layers.md): told a star, with a
bottom that is told a cross, a fine-tune draws a star. Stars and crosses differ in a few numbers of a latent, so errors
count more at things than around them, and scenes of several things come more often.

What it says of other styles' pictures, and of its own with little noise, is kept. Inversion and the way from another
style live there: without that a mosaic fine-tune drew what it was asked for, and left a drawing in ink a drawing. An
inverted picture's noise holds a trace of the picture, so most of the noise does there, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from demo.nets import alphas_cumprod
from demo.parts import Models
from demo.train import stage, workers
from demo.train.top import Answer, Pupil, imitation_loss
from demo.train.unet import Pool, noised, spread
from demo.world import make_scene, masks

FORMED = (350, 1000)  # timesteps at which it is decided what is drawn
ROWS = 9  # of a step there, of the style's pictures, ...
KEPT_ROWS = (4, 2)  # ... beside those that keep what is said of other styles' and of its own
KEPT = 20.0  # what the latter count
TRACED, TRACE = 0.7, 0.6  # share of other styles' rows whose noise holds a trace of the picture, and most of it
THING = 6.0  # what an error counts in a thing and a latent around it, where it counts 1 elsewhere
HEAVIEST = 8.0  # bound of 1 / alpha-bar, which makes of the noise's error the picture's
SILENT = 0.15  # share of the empty captions among what is kept


def train(plan: stage.Plan, start: Path, pool: Pool, style: str, models: Models, device: torch.device) -> None:
    """Train a fine-tune on.

    Args:
        plan: the stage's.
        start: the fine-tune's state, of `demo.train.top`.
        pool: large pictures of every style; those of the one teach.
        style: the style.
        models: its text encoder and vocabulary are used.
        device: where to.
    """
    pupil = Pupil.of(start, models, device)
    own, others = pool.of(style), pool.without(style)
    many = 1 if device.type == "cpu" else 4

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        del progress
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        formed = _formed(pupil, own, ROWS * many, rng)
        kept = _kept(pupil, others, own, many, rng)
        return formed + KEPT * kept, {"formed": formed.item(), "kept": kept.item()}

    stage.run(plan, {"unet": pupil.unet}, step, {"unet": stage.Average(pupil.unet, 0.99)})


def _formed(pupil: Pupil, own: Pool, count: int, rng: np.random.Generator) -> Tensor:
    rows, texts = own.pick(rng, count, style_word=0.0, empty=0.0, crowded=True)
    clean = own.latents[rows].to(pupil.device)
    weight = near_things(own.seed_of[rows.numpy()], clean.shape[-1]).to(pupil.device)
    return shape_loss(pupil.answer, clean, pupil.teacher.context(texts, pupil.device), weight, rng)


def _kept(pupil: Pupil, others: Pool, own: Pool, many: int, rng: np.random.Generator) -> Tensor:
    """How far it is from what it said before: of other styles' pictures at all timesteps, its own below `FORMED`."""
    counts, ends = [many * count for count in KEPT_ROWS], (1000, FORMED[0])
    drawn = [p.draw(rng, n, style_word=0.0, empty=SILENT) for p, n in zip((others, own), counts, strict=True)]
    timestep = torch.cat([spread(rng, n, 0, end) for n, end in zip(counts, ends, strict=True)]).to(pupil.device)
    clean = torch.cat([latents for latents, _ in drawn]).to(pupil.device)
    alpha_bar = alphas_cumprod().to(pupil.device)[timestep]
    noisy, _ = noised(clean, alpha_bar, rng)
    foreign = slice(counts[0])
    noisy[foreign] = traced(noisy[foreign], clean[foreign], alpha_bar[foreign], rng)
    context = pupil.teacher.context([text for _, written in drawn for text in written], pupil.device)
    with torch.no_grad():
        goal = pupil.teacher.unet(noisy, timestep, context=context)
    return imitation_loss(pupil.answer, noisy, timestep, context, goal, HEAVIEST)


def traced(noisy: Tensor, clean: Tensor, alpha_bar: Tensor, rng: np.random.Generator) -> Tensor:
    """Noisy latents (n, 4, h, w); in a share `TRACED` the noise holds up to `TRACE` of the clean ones, as an inverted
    picture's does."""
    trace = torch.from_numpy(rng.uniform(0, TRACE, len(clean)) * (rng.random(len(clean)) < TRACED)).float()
    return noisy + ((1 - alpha_bar).sqrt() * trace.to(noisy.device)).view(-1, 1, 1, 1) * clean


def near_things(seeds: Sequence[int] | np.ndarray, side: int) -> Tensor:
    """What an error counts at every latent of these scenes' pictures: (n, 1, side, side), 1 on average."""
    fine = np.stack([masks(make_scene(int(seed)), 4 * side).any(0) for seed in seeds])
    area = F.avg_pool2d(torch.from_numpy(fine).float()[:, None], 4)
    weight = 1 + (THING - 1) * F.max_pool2d(area, 3, 1, 1)
    return weight / weight.mean((1, 2, 3), keepdim=True)


def shape_loss(unet: Answer, clean: Tensor, context: Tensor, weight: Tensor, rng: np.random.Generator) -> Tensor:
    """Squared error of the noise at `FORMED` timesteps, weighted at every latent by `weight` (n, 1, h, w)."""
    timestep = spread(rng, len(clean), *FORMED).to(clean.device)
    alpha_bar = alphas_cumprod().to(clean.device)[timestep]
    noisy, noise = noised(clean, alpha_bar, rng)
    error = ((unet(noisy, timestep, context=context) - noise).square() * weight).mean((1, 2, 3))
    return (error * (1 / alpha_bar).clamp(max=HEAVIEST)).mean() / 5
