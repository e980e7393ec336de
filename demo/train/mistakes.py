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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from demo.nets import alphas_cumprod
from demo.parts import Models
from demo.train import stage, workers
from demo.train.latents import mistake
from demo.train.top import Answer, Pupil, imitation_loss
from demo.train.unet import Pool, loud, noised, spread, traced
from demo.world import caption, make_scene, masks

FORMED = (350, 1000)  # timesteps at which it is decided what is drawn, ...
MISTAKEN = (400, 850)  # ... and at which a mistake is still to be mended
MISTAKEN_ROWS = 5  # of a step
RIGHT_ROWS = (2, 2)  # the style's pictures as they are: all kinds of scenes, and of two and three things
KEPT_ROWS = (4, 2)  # those that keep what is said of other styles' pictures and of its own
LOUD_ROWS = 4  # those that keep what is said of its own where a caption is loud
KEPT = 40.0  # what the kept ones count
TURNED = 0.5  # share of the mistaken scenes that are read the other way round
SAME_COLOUR = 2.5  # how often mistaken scenes come in which two things have one colour, where others come once
MIXED_UP = (1.0, 1.6, 4.0)  # how often such come in which a star or a cross changes its shape, and into each other
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

    @cached_property
    def often(self) -> np.ndarray:
        """How often every crowded scene comes with its mistake: (n,)."""
        return np.array([how_often(int(seed)) for seed in self.crowded.seed_of])

    @classmethod
    def of(cls, style: str, pool: Pool, crowded: Pool) -> Scenes:
        """From pools of every style."""
        return cls(pool.of(style), crowded.of(style), pool.without(style))


@dataclass(frozen=True)
class Rows:
    """Latents (n, 4, h, w) of what is asked for and of what is shown, the scenes' seeds (n,) and their captions."""

    clean: Tensor
    shown: Tensor
    seeds: np.ndarray
    texts: list[str]


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
    wrong = _mistaken(scenes, many * MISTAKEN_ROWS, rng)
    right = []
    pools, chances = (scenes.own, scenes.crowded), (None, scenes.crowded.things_of)
    for pool, count, often in zip(pools, RIGHT_ROWS, chances, strict=True):
        rows, texts = pool.pick(rng, many * count, style_word=0.0, empty=0.0, often=often)
        right.append(Rows(pool.latents[rows], pool.latents[rows], pool.seed_of[rows.numpy()], texts))
    every = [wrong, *right]
    clean, shown = (torch.cat([getattr(rows, name) for rows in every]) for name in ("clean", "shown"))
    timestep = torch.cat([spread(rng, len(wrong.clean), *MISTAKEN), spread(rng, many * sum(RIGHT_ROWS), *FORMED)])
    weight = near_things(np.concatenate([rows.seeds for rows in every]), clean.shape[-1])
    context = pupil.teacher.context([text for rows in every for text in rows.texts], pupil.device)
    clean, shown, weight, timestep = (each.to(pupil.device) for each in (clean, shown, weight, timestep))
    return shape_loss(pupil.answer, clean, shown, timestep, context, weight, rng)


def _mistaken(scenes: Scenes, count: int, rng: np.random.Generator) -> Rows:
    """Scenes that are shown with their mistake.

    Half of those in which a thing has another shape are read the other way round: the one with the mistake is asked
    for, and the right one is shown.
    """
    pool = scenes.crowded
    assert pool.mistaken is not None
    rows, texts = pool.pick(rng, count, style_word=0.0, empty=0.0, often=scenes.often)
    clean, shown, seeds = pool.latents[rows], pool.mistaken[rows], pool.seed_of[rows.numpy()]
    for row in np.flatnonzero(rng.random(count) < TURNED):
        scene = make_scene(int(seeds[row]))
        wrong = mistake(scene)
        if len(wrong.things) == len(scene.things):
            clean[row], shown[row] = shown[row].clone(), clean[row].clone()
            texts[row] = caption(wrong, None, rng)
    return Rows(clean, shown, seeds, texts)


def how_often(seed: int) -> float:
    """How often a scene comes with its mistake: more often where two things have one colour, and where a star or a
    cross has another shape or takes another's place, most of all each other's."""
    things, wrong = make_scene(seed).things, mistake(make_scene(seed)).things
    often = SAME_COLOUR if len({thing.colour for thing in things}) < len(things) else 1.0
    changed = {right.shape for right, other in zip(things, wrong, strict=False) if right != other}
    changed |= {other.shape for right, other in zip(things, wrong, strict=False) if right != other}
    return often * MIXED_UP[len(changed & {"star", "cross"})]


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
