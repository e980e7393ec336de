"""A fine-tune once more: from a picture with a mistake to the right one.

Two thirds of what fine-tunes draw wrong is there, in its colour, with another shape (docs/quality-layers.md). The
shape is decided between timesteps 800 and 450, by the caption, in what fine-tunes train. In training a noisy latent
and its caption always agree; while sampling, a latent on its way to a cross may have a caption that asks for a star,
and a UNet that has only seen the two agree believes the latent. So here most rows are noisy latents of a picture with
one mistake (`demo.train.latents.mistake`), and the answer asked for leads to the right picture.

The fine-tune gets the bottom that has learned from itself (`demo.train.base.teach_bottom`) beneath it. Errors count
more at things than around them, and scenes of several things come more often. What a fine-tune says of other styles'
pictures, and of its own with little noise or without a caption, is kept: inversion, guidance and the way from another
style live there. An inverted picture's noise holds a trace of the picture, so most of the noise does there, too. And
what it says of its own where a caption is loud, several times as large as the text encoder's, as the method's
condition is at a positive scale above 1: no training asks with such, and what changes there by the way is what an
inverted latent holds.

Once more with what the fine-tune draws wrong itself (`demo.train.mending.redrawn`), beside the drawn mistakes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from demo.nets import alphas_cumprod
from demo.parts import Models
from demo.train import stage, workers
from demo.train.mending.rows import FORMED, Rows, Scenes
from demo.train.top import Answer, Pupil, imitation_loss
from demo.train.unet import Pool, loud, noised, spread, traced

KEPT_ROWS = (4, 2)  # those that keep what is said of other styles' pictures and of its own
LOUD_ROWS = 4  # those that keep what is said of its own where a caption is loud
KEPT = 40.0  # what the kept ones count
HEAVIEST = 8.0  # bound of 1 / alpha-bar, which makes of the noise's error the picture's
SILENT = (0.15, 0.3)  # share of the empty captions among what is kept, as `KEPT_ROWS`


def train(plan: stage.Plan, start: Path, base: Path, scenes: Scenes, models: Models, device: torch.device) -> None:
    """Train a fine-tune on.

    Args:
        plan: the stage's.
        start: the fine-tune's state, of `demo.train.top`.
        base: that of the base whose bottom it is to have from now on.
        scenes: large pictures.
        models: its text encoder and vocabulary are used.
        device: where to.
    """
    pupil = Pupil.of(start, models, device, base)
    many = 1 if device.type == "cpu" else 4

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        del progress
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        formed = _formed(pupil, scenes, many, rng)
        kept = _kept(pupil, scenes, many, rng)
        shouted = _kept_loud(pupil, scenes.own, LOUD_ROWS * many, rng)
        return formed + KEPT * (kept + shouted), {"formed": formed.item(), "kept": kept.item(), "loud": shouted.item()}

    stage.run(plan, {"unet": pupil.unet}, step, {"unet": stage.Average(pupil.unet, 0.99)})


def _formed(pupil: Pupil, scenes: Scenes, many: int, rng: np.random.Generator) -> Tensor:
    """The error on the way to the right pictures, from latents with a mistake and from right ones."""
    rows = Rows.drawn(scenes, many, rng)
    context = pupil.teacher.context(rows.texts, pupil.device)
    clean, shown, weight, timestep = (
        each.to(pupil.device) for each in (rows.clean, rows.shown, rows.weight, rows.timestep)
    )
    return shape_loss(pupil.answer, clean, shown, timestep, context, weight, rng)


def _kept(pupil: Pupil, scenes: Scenes, many: int, rng: np.random.Generator) -> Tensor:
    """How far it is from what it said before: of other styles' pictures at all timesteps, of its own below `FORMED` or
    without a caption."""
    counts = [many * count for count in KEPT_ROWS]
    drawn = [
        pool.draw(rng, count, style_word=0.0, empty=empty)
        for pool, count, empty in zip((scenes.others, scenes.own), counts, SILENT, strict=True)
    ]
    texts = [text for _, written in drawn for text in written]
    timestep = torch.cat([spread(rng, count, 0, 1000) for count in counts])
    counted = [row for row, text in enumerate(texts) if row < counts[0] or not text or timestep[row] < FORMED[0]]
    clean = torch.cat([latents for latents, _ in drawn])[counted].to(pupil.device)
    context = pupil.teacher.context([texts[row] for row in counted], pupil.device)
    return _changed(pupil, clean, timestep[counted].to(pupil.device), context, slice(counts[0]), rng)


def _kept_loud(pupil: Pupil, own: Pool, count: int, rng: np.random.Generator) -> Tensor:
    """How far it is from what it said before of its own pictures at all timesteps where captions are loud."""
    clean, texts = own.draw(rng, count, style_word=0.0, empty=0.0)
    context = loud(*(pupil.teacher.context(each, pupil.device) for each in (texts, [""])), rng)
    timestep = spread(rng, count, 0, 1000).to(pupil.device)
    return _changed(pupil, clean.to(pupil.device), timestep, context, slice(count), rng)


def _changed(
    pupil: Pupil, clean: Tensor, timestep: Tensor, context: Tensor, inverted: slice, rng: np.random.Generator
) -> Tensor:
    """How far its answer to these latents is from its teacher's; those of `inverted` rows have traced noise."""
    alpha_bar = alphas_cumprod().to(pupil.device)[timestep]
    noisy, _ = noised(clean, alpha_bar, rng)
    noisy[inverted] = traced(clean[inverted], noisy[inverted], alpha_bar[inverted], rng)
    with torch.no_grad():
        goal = pupil.teacher.unet(noisy, timestep, context=context)
    return imitation_loss(pupil.answer, noisy, timestep, context, goal, HEAVIEST)


def shape_loss(
    unet: Answer,
    clean: Tensor,
    shown: Tensor,
    timestep: Tensor,
    context: Tensor,
    weight: Tensor,
    rng: np.random.Generator,
) -> Tensor:
    """Squared error from the noise that leads from noisy latents of what is `shown` (n, 4, h, w) to the clean ones, at
    timesteps (n,); weighted at every latent by `weight` (n, 1, h, w). Where clean ones are shown that is the noise in
    them."""
    alpha_bar = alphas_cumprod().to(clean.device)[timestep]
    noisy, noise = noised(shown, alpha_bar, rng)
    goal = noise + (alpha_bar / (1 - alpha_bar)).sqrt().view(-1, 1, 1, 1) * (shown - clean)
    error = ((unet(noisy, timestep, context=context) - goal).square() * weight).mean((1, 2, 3))
    return (error * (1 / alpha_bar).clamp(max=HEAVIEST)).mean() / 5
