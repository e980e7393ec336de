"""What is shown to a fine-tune that is trained on, and what is asked for: pictures with a mistake and right ones.

Of which two things is the star, where both look like triangles on the way and the caption asks for one of each? Where
captions do not say, nobody knows, and what is learned is to leave both as they are. So all captions here say how two
things stand to each other, as prompts do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from demo.train.latents import mistake
from demo.train.unet import Pool, spread
from demo.world import Scene, caption, make_scene, masks

FORMED = (350, 1000)  # timesteps at which it is decided what is drawn, ...
MISTAKEN = (400, 880)  # ... at which a mistake is still to be mended, ...
REDRAWN = (300, 850)  # ... and what a fine-tune drew wrong, in which the tiles of an outline are wrong, too
MISTAKEN_ROWS = 5  # of a step
WITH_REDRAWN = (4, 6)  # of a step: of what it drew wrong itself, and of the drawn mistakes beside it
RIGHT_ROWS = (2, 2)  # the style's pictures as they are: all kinds of scenes, and of two and three things
TURNED = 0.5  # share of the mistaken scenes that are read the other way round
SAME_COLOUR = 2.5  # how often mistaken scenes come in which two things have one colour, where others come once
TWINS = 5.0  # ... and how much more often those in which they have one shape by mistake
MIXED_UP = (1.0, 1.6, 4.0)  # how often such come in which a star or a cross changes its shape, and into each other
WRONG_CELLS = (4, 30)  # between which a redrawn scene comes as often as it has latents that are wrong
THING = 6.0  # what an error counts in a thing and a latent around it, where it counts 1 elsewhere


@dataclass(frozen=True)
class Scenes:
    """The latents of a stage: a style's own, those of its scenes of two and three things with their mistakes, the
    other styles', and, where there are such, what the fine-tune drew wrong with what was wrong put right."""

    own: Pool
    crowded: Pool
    others: Pool
    redrawn: Pool | None = None

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
    """Latents (n, 4, h, w) of what is asked for and of what is shown, their captions, the timesteps (n,), and what an
    error counts at every latent (n, 1, h, w)."""

    clean: Tensor
    shown: Tensor
    texts: list[str]
    timestep: Tensor
    weight: Tensor

    @classmethod
    def drawn(cls, scenes: Scenes, many: int, rng: np.random.Generator) -> Rows:
        """The rows of a step: `many` times those of the counts above."""
        own, mistaken = (0, MISTAKEN_ROWS) if scenes.redrawn is None else WITH_REDRAWN
        every = [_mistaken(scenes, many * mistaken, rng), *_right(scenes, many, rng)]
        if scenes.redrawn is not None:
            every.append(_redrawn(scenes.redrawn, many * own, rng))
        texts = [text for rows in every for text in rows.texts]
        clean, shown, timestep, weight = (
            torch.cat([getattr(rows, name) for rows in every]) for name in ("clean", "shown", "timestep", "weight")
        )
        return cls(clean, shown, texts, timestep, weight)


def _right(scenes: Scenes, many: int, rng: np.random.Generator) -> list[Rows]:
    """The style's pictures as they are."""
    times = spread(rng, many * sum(RIGHT_ROWS), *FORMED).split([many * count for count in RIGHT_ROWS])
    every = []
    pools, chances = (scenes.own, scenes.crowded), (None, scenes.crowded.things_of)
    for pool, timestep, often in zip(pools, times, chances, strict=True):
        rows, texts = pool.pick(rng, len(timestep), style_word=0.0, empty=0.0, often=often, related=True)
        clean = pool.latents[rows]
        every.append(Rows(clean, clean, texts, timestep, near_things(pool.seed_of[rows.numpy()], clean.shape[-1])))
    return every


def _mistaken(scenes: Scenes, count: int, rng: np.random.Generator) -> Rows:
    """Scenes that are shown with their mistake.

    Half of those in which a thing has another shape are read the other way round: the one with the mistake is asked
    for, and the right one is shown; not where the mistake makes two things the same.
    """
    pool = scenes.crowded
    assert pool.mistaken is not None
    rows, texts = pool.pick(rng, count, style_word=0.0, empty=0.0, often=scenes.often, related=True)
    clean, shown, seeds = pool.latents[rows], pool.mistaken[rows], pool.seed_of[rows.numpy()]
    for row in np.flatnonzero(rng.random(count) < TURNED):
        scene = make_scene(int(seeds[row]))
        wrong = mistake(scene)
        if len(wrong.things) == len(scene.things) and not has_twins(wrong):
            clean[row], shown[row] = shown[row].clone(), clean[row].clone()
            texts[row] = caption(wrong, None, rng, related=True)
    return Rows(clean, shown, texts, spread(rng, count, *MISTAKEN), near_things(seeds, clean.shape[-1]))


def _redrawn(pool: Pool, count: int, rng: np.random.Generator) -> Rows:
    """What the fine-tune drew wrong, beside what is right; often where much is wrong."""
    assert pool.mistaken is not None
    wrong = (pool.mistaken - pool.latents).abs().amax(1).gt(0.5).sum((1, 2)).numpy()
    often = wrong.clip(*WRONG_CELLS)
    rows, texts = pool.pick(rng, count, style_word=0.0, empty=0.0, often=often, related=True)
    clean, shown = pool.latents[rows], pool.mistaken[rows]
    # Drawn mistakes differ a little everywhere, these only where something was put right.
    weight = near_things(pool.seed_of[rows.numpy()], clean.shape[-1], (clean != shown).any(1, keepdim=True))
    return Rows(clean, shown, texts, spread(rng, count, *REDRAWN), weight)


def how_often(seed: int) -> float:
    """How often a scene comes with its mistake: more often where two things have one colour, and where a star or a
    cross has another shape or takes another's place, most of all each other's; or where two become the same."""
    things, wrong = make_scene(seed).things, mistake(make_scene(seed))
    often = SAME_COLOUR if len({thing.colour for thing in things}) < len(things) else 1.0
    changed = {right.shape for right, other in zip(things, wrong.things, strict=False) if right != other}
    changed |= {other.shape for right, other in zip(things, wrong.things, strict=False) if right != other}
    return often * MIXED_UP[len(changed & {"star", "cross"})] * (TWINS if has_twins(wrong) else 1.0)


def has_twins(scene: Scene) -> bool:
    """Whether two things have one shape and one colour, as no scene has that is not mistaken."""
    return len({(thing.shape, thing.colour) for thing in scene.things}) < len(scene.things)


def near_things(seeds: Sequence[int] | np.ndarray, side: int, altered: Tensor | None = None) -> Tensor:
    """What an error counts at every latent of these scenes' pictures, things and what is `altered` (n, 1, side, side)
    bool most: (n, 1, side, side), 1 on average."""
    fine = np.stack([masks(make_scene(int(seed)), 4 * side).any(0) for seed in seeds])
    near = F.max_pool2d(F.avg_pool2d(torch.from_numpy(fine).float()[:, None], 4), 3, 1, 1)
    if altered is not None:
        near = torch.maximum(near, altered.float())
    weight = 1 + (THING - 1) * near
    return weight / weight.mean((1, 2, 3), keepdim=True)
