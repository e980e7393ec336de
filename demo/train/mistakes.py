"""A fine-tune once more: from a picture with a mistake to the right one.

Two thirds of what fine-tunes draw wrong is there, in its colour, with another shape (docs/quality-layers.md). The
shape is decided between timesteps 800 and 450, by the caption, in what fine-tunes train. In training a noisy latent
and its caption always agree; while sampling, a latent on its way to a cross may have a caption that asks for a star,
and a UNet that has only seen the two agree believes the latent. So here half of the rows are noisy latents of a
picture with one mistake (`demo.train.latents.mistake`), and the answer asked for leads to the right picture.

Errors count more at things than around them, and scenes of several things come more often. What a fine-tune says of
other styles' pictures, and of its own with little noise or without a caption, is kept: inversion, guidance and the way
from another style live there. An inverted picture's noise holds a trace of the picture, so most of the noise does
there, too. And what it says of its own where a caption is loud, several times as large as the text encoder's, as the
method's condition is at a positive scale above 1: no training asks with such, and what changes there by the way is
what an inverted latent holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

FORMED = (350, 1000)  # timesteps at which it is decided what is drawn, ...
MISTAKEN = (400, 850)  # ... and at which a mistake is still to be mended
MISTAKEN_ROWS = 5  # of a step
RIGHT_ROWS = (2, 2)  # the style's pictures as they are: all kinds of scenes, and of two and three things
KEPT_ROWS = (4, 2)  # those that keep what is said of other styles' pictures and of its own
LOUD_ROWS = 4  # those that keep what is said of its own where a caption is loud
KEPT = 40.0  # what the kept ones count
LOUD, LESS_EMPTY = (1.5, 4.0), (0.0, 0.7)  # how many times the caption, and less how many times the empty one
SAME_COLOUR = 2.5  # how often mistaken scenes come in which two things have one colour, where others come once
TRACED, TRACE = 0.7, 0.6  # share of other styles' rows whose noise holds a trace of the picture, and most of it
THING = 6.0  # what an error counts in a thing and a latent around it, where it counts 1 elsewhere
HEAVIEST = 8.0  # bound of 1 / alpha-bar, which makes of the noise's error the picture's
SILENT = (0.15, 0.3)  # share of the empty captions among what is kept, as `KEPT_ROWS`


@dataclass(frozen=True)
class Scenes:
    """The latents of a stage: a style's own, those of its scenes of two and three things with their mistakes, and the
    other styles'."""

    own: Pool
    crowded: Pool
    others: Pool

    @classmethod
    def of(cls, style: str, pool: Pool, crowded: Pool) -> Scenes:
        """From pools of every style."""
        return cls(pool.of(style), crowded.of(style), pool.without(style))


def train(plan: stage.Plan, start: Path, scenes: Scenes, models: Models, device: torch.device) -> None:
    """Train a fine-tune on.

    Args:
        plan: the stage's.
        start: the fine-tune's state, of `demo.train.top`.
        scenes: large pictures.
        models: its text encoder and vocabulary are used.
        device: where to.
    """
    pupil = Pupil.of(start, models, device)
    many = 1 if device.type == "cpu" else 4

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        del progress
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        formed = _formed(pupil, scenes, many, rng)
        kept = _kept(pupil, scenes, many, rng)
        loud = _loud(pupil, scenes.own, LOUD_ROWS * many, rng)
        return formed + KEPT * (kept + loud), {"formed": formed.item(), "kept": kept.item(), "loud": loud.item()}

    stage.run(plan, {"unet": pupil.unet}, step, {"unet": stage.Average(pupil.unet, 0.99)})


def _formed(pupil: Pupil, scenes: Scenes, many: int, rng: np.random.Generator) -> Tensor:
    """The error on the way to the right pictures, from latents with a mistake and from right ones."""
    own, crowded = scenes.own, scenes.crowded
    assert crowded.mistaken is not None
    often = np.where([_shares_a_colour(seed) for seed in crowded.seed_of], SAME_COLOUR, 1.0)
    pools, chances = (crowded, own, crowded), (often, own.things_of, crowded.things_of)
    counts = [many * count for count in (MISTAKEN_ROWS, *RIGHT_ROWS)]
    picked = [
        pool.pick(rng, count, style_word=0.0, empty=0.0, often=chance)
        for pool, count, chance in zip(pools, counts, chances, strict=True)
    ]
    clean = torch.cat([pool.latents[rows] for pool, (rows, _) in zip(pools, picked, strict=True)])
    shown = torch.cat([crowded.mistaken[picked[0][0]], clean[counts[0] :]])
    seeds = np.concatenate([pool.seed_of[rows.numpy()] for pool, (rows, _) in zip(pools, picked, strict=True)])
    timestep = torch.cat([spread(rng, counts[0], *MISTAKEN), spread(rng, sum(counts[1:]), *FORMED)])
    weight = near_things(seeds, clean.shape[-1])
    context = pupil.teacher.context([text for _, texts in picked for text in texts], pupil.device)
    clean, shown, weight, timestep = (each.to(pupil.device) for each in (clean, shown, weight, timestep))
    return shape_loss(pupil.answer, clean, shown, timestep, context, weight, rng)


def _shares_a_colour(seed: int) -> bool:
    things = make_scene(int(seed)).things
    return len({thing.colour for thing in things}) < len(things)


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


def _loud(pupil: Pupil, own: Pool, count: int, rng: np.random.Generator) -> Tensor:
    """How far it is from what it said before of its own pictures at all timesteps where captions are loud."""
    clean, texts = own.draw(rng, count, style_word=0.0, empty=0.0)
    times, less = (torch.from_numpy(rng.uniform(*span, count)).float().to(pupil.device) for span in (LOUD, LESS_EMPTY))
    caption, empty = (pupil.teacher.context(each, pupil.device) for each in (texts, [""] * count))
    context = times.view(-1, 1, 1) * caption - less.view(-1, 1, 1) * empty
    timestep = spread(rng, count, 0, 1000).to(pupil.device)
    return _changed(pupil, clean.to(pupil.device), timestep, context, slice(count), rng)


def _changed(
    pupil: Pupil, clean: Tensor, timestep: Tensor, context: Tensor, inverted: slice, rng: np.random.Generator
) -> Tensor:
    """How far its answer to these latents is from its teacher's; those of `inverted` rows have traced noise."""
    alpha_bar = alphas_cumprod().to(pupil.device)[timestep]
    noisy, _ = noised(clean, alpha_bar, rng)
    noisy[inverted] = traced(noisy[inverted], clean[inverted], alpha_bar[inverted], rng)
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
