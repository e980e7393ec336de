"""Stage 4: the base, from its bottom up (`demo.train.bottom`).

- The bottom is trained alone, by its head, which costs an eighth of a whole step.
- Then all is trained; the bottom goes on learning from its head alone, and what lies above learns to draw in the style
  that the text and the noisy latent tell. In some rows the bottom is shown a less noisy latent of the same picture, so
  that what lies above learns to believe it. No row sees anything of another picture: nothing is trained on the method.
- Both once more at the size the checkpoints are made for, with twice as many channels below (`demo.train.widen`). A
  cell there is 64 numbers of the latent, which 64 channels can hardly hold while they work.
- Last, with the fine-tunes made, the bottom once more, from itself (`teach_bottom`): what it says of a noisy latent is
  to be what it said of the same picture with less noise. Whatever reads it goes on reading it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from demo import parts
from demo.nets import NARROW_UNET_CONFIG, UNET_CONFIG, alphas_cumprod, make_unet
from demo.styles import CHECKPOINT_STYLES
from demo.train import stage, workers
from demo.train.bottom import PLAIN, alone, bottom, make_head, silence, top
from demo.train.top import frozen_unet
from demo.train.unet import SIDE, SMALL_PICTURES, Pool, loss_weight, loud, noised, spread, traced
from demo.train.widen import NARROW, WIDE, widen_all
from demo.world import caption, make_scene

LEAST_NOISY = 100  # timestep below which the bottom alone is not asked for the clean latent
KNOWS_MORE = 0.6  # share of rows whose bottom is shown a less noisy latent
STYLE_WORD = 0.85  # share of the captions that name the style

# Where the bottom learns from itself:
TAUGHT_ROWS = (10, 8)  # a worker's rows in one step: to be learned, and kept where captions are loud
NOISIER = 0.6  # power of the timesteps' share: half of them above 700, where what is drawn is decided
CLEARER = 0.5  # of a row's timestep: up to there the teacher is shown the picture
TAUGHT_STYLE_WORD = (0.5, 0.2)  # share of the captions that name the style, as the rows; a fine-tune's never do
KEPT_LOUD = 2.0  # what the kept ones count

Pools = Mapping[int, Pool]  # by the pictures' side, in pixels
Step = tuple[Tensor, dict[str, float]]


@dataclass(frozen=True)
class Leg:
    """One stage of the base's training; it starts from the averages of the leg before.

    `minutes` are those of two workers, a thread each; `small` is the share of them spent at 128 pixels; `wide` says
    whether strides 4 and 8 have twice the channels.
    """

    name: str
    minutes: float
    rate: float
    small: float
    whole: bool
    wide: bool

    @property
    def rows(self) -> dict[int, int]:
        """A worker's rows in one step, by the pictures' side."""
        return {128: 8, SIDE: 4} if self.whole else {128: 24, SIDE: 12}

    def side(self, number: int, progress: float) -> int:
        """The side of a step's pictures: small ones first, and one step in ten later on."""
        return 128 if progress < self.small or number % 10 == 0 else SIDE


LEGS = (
    Leg("bottom", 6.0, 1e-3, SMALL_PICTURES, whole=False, wide=False),
    Leg("whole", 42.0, 1e-3, SMALL_PICTURES, whole=True, wide=False),
    Leg("bottom-large", 16.0, 6e-4, 0.0, whole=False, wide=True),
    Leg("whole-large", 34.0, 5e-4, 0.0, whole=True, wide=True),
    Leg("bottom-again", 12.0, 5e-4, 0.0, whole=False, wide=True),
    Leg("whole-again", 20.0, 4e-4, 0.0, whole=True, wide=True),
    Leg("bottom-last", 20.0, 5e-4, 0.0, whole=False, wide=True),
    Leg("whole-last", 24.0, 4e-4, 0.0, whole=True, wide=True),
)


@dataclass(frozen=True)
class Lesson:
    """What a leg learns from: the pictures, and who reads the captions."""

    pools: Pools
    models: parts.Models
    device: torch.device

    def rows(self, leg: Leg, at: tuple[int, float], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (n, 4, h, w), the plain ones and embeddings (n, 77, 64); `at`: the step, the share of the budget."""
        side = leg.side(*at)
        more = 1 if self.device.type == "cpu" else 8
        pool = self.pools[side]
        rows, texts = pool.pick(rng, leg.rows[side] * more, STYLE_WORD)
        plain = pool.latents if pool.plain is None else pool.plain
        return pool.latents[rows].to(self.device), plain[rows].to(self.device), self.read(texts, rng)

    @torch.no_grad()
    def read(self, texts: Sequence[str], rng: np.random.Generator | None = None) -> Tensor:
        """Embeddings (n, 77, 64); with random numbers unknown words are strewn about."""
        return self.models.text(self.models.vocabulary.batch(list(texts), rng).to(self.device))


def train(folder: Path, models: parts.Models, sides: Sequence[int], share: float, device: torch.device) -> Path:
    """Every leg on the folder's latents; what is done is skipped. Returns the base's state."""
    models.text.to(device)
    pools = {side: Pool.load(folder, CHECKPOINT_STYLES, side, models.scale_factor, PLAIN) for side in sides}
    before: Path | None = None
    for number, leg in enumerate(LEGS):
        plan = stage.Plan(leg.name, folder, leg.minutes * 60 * share, leg.rate, 40 + number)
        if not stage.is_done(plan):
            train_leg(plan, leg, before, Lesson(pools, models, device))
        before = plan.state_file
    assert before is not None
    return before


def train_leg(plan: stage.Plan, leg: Leg, start: Path | None, lesson: Lesson) -> None:
    """Train one leg, from the state of the leg before if there is one."""
    torch.manual_seed(plan.seed)
    unet, head = make_unet(UNET_CONFIG if leg.wide else NARROW_UNET_CONFIG), make_head(WIDE if leg.wide else NARROW)
    if start is not None:
        averages = stage.load_state(start)["averages"]
        if leg.wide and len(averages["head"]["0.weight"][0]) == NARROW:
            averages = widen_all(averages, plan.seed)
        unet.load_state_dict(averages["unet"])
        head.load_state_dict(averages["head"])
    silence(unet)
    modules = {"unet": unet.to(lesson.device), "head": head.to(lesson.device)}
    learn = whole_step if leg.whole else bottom_step

    def step(number: int, progress: float) -> Step:
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        return learn(unet, head, lesson.rows(leg, (number, progress), rng), rng)

    stage.run(plan, modules, step, {name: stage.Average(module, 0.99) for name, module in modules.items()})


def bottom_step(unet: Any, head: Any, rows: tuple[Tensor, Tensor, Tensor], rng: np.random.Generator) -> Step:
    """Strides 4 and 8 alone: the squared error of the plain clean latent, evenly over the noise levels."""
    clean, plain, context = rows
    timestep = spread(rng, len(clean), LEAST_NOISY, 1000).to(clean.device)
    noisy, _ = noised(clean, alphas_cumprod().to(clean.device)[timestep], rng)
    error = F.mse_loss(head(bottom(unet, noisy, timestep, context)), plain)
    return error, {"plain": error.item()}


def whole_step(unet: Any, head: Any, rows: tuple[Tensor, Tensor, Tensor], rng: np.random.Generator) -> Step:
    """Everything: what lies above the bottom by the weighted error of the noise, the bottom by its head."""
    clean, plain, context = rows
    timestep = spread(rng, len(clean), 0, 1000).to(clean.device)
    alpha_bar = alphas_cumprod().to(clean.device)[timestep]
    noisy, noise = noised(clean, alpha_bar, rng)
    shown, earlier = know_more(clean, noisy, timestep, rng)
    below = bottom(unet, shown, earlier, context)
    guess = F.mse_loss(head(below), plain)
    said = top(unet, below.detach(), noisy, timestep, context)  # the bottom is not asked how things are drawn
    loss = ((said - noise).square().mean((1, 2, 3)) * loss_weight(alpha_bar)).mean()
    return loss + guess, {"loss": loss.item(), "plain": guess.item()}


def know_more(clean: Tensor, noisy: Tensor, timestep: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """What the bottom is shown: latents (n, 4, h, w) and timesteps (n,).

    In a share `KNOWS_MORE` of the rows the same picture at an earlier timestep with noise of its own, else the noisy
    latent itself.
    """
    count = len(timestep)
    more = torch.from_numpy(rng.random(count) < KNOWS_MORE).to(timestep.device)
    share = torch.from_numpy(rng.random(count)).to(timestep.device)
    earlier = torch.where(more, (timestep * share).long(), timestep)
    fresh, _ = noised(clean, alphas_cumprod().to(clean.device)[earlier], rng)
    return torch.where(more.view(-1, 1, 1, 1), fresh, noisy), earlier


def teach_bottom(plan: stage.Plan, start: Path, pool: Pool, models: parts.Models, device: torch.device) -> None:
    """Train the bottom of a base's state on, from itself.

    Only what nobody else reads through learns (`demo.train.bottom.alone`): with the skips and the time embedding
    moved, what lies above, which is not trained here, read an inverted picture's noise wrong.

    Args:
        plan: the stage's.
        start: the base's state, of `train`.
        pool: large pictures, with the same scenes in the plain style.
        models: its text encoder and vocabulary are used.
        device: where to.
    """
    models.text.to(device)
    unet, teacher = (frozen_unet(start).to(device) for _ in range(2))
    for module in alone(unet):
        module.requires_grad_(True)
    silence(unet)
    lesson = Lesson({SIDE: pool}, models, device)
    many = 1 if device.type == "cpu" else 8

    def step(number: int, progress: float) -> Step:
        del progress
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        taught = taught_loss(unet, teacher, lesson, many * TAUGHT_ROWS[0], rng)
        kept = kept_loud_loss(unet, teacher, lesson, many * TAUGHT_ROWS[1], rng)
        return taught + KEPT_LOUD * kept, {"taught": taught.item(), "loud": kept.item()}

    stage.run(plan, {"unet": unet}, step, {"unet": stage.Average(unet, 0.99)})


def taught_loss(unet: Any, teacher: Any, lesson: Lesson, count: int, rng: np.random.Generator) -> Tensor:
    """How far the bottom is from what it said of the same scenes in the plain style with far less noise, told all of
    the scene; a share of the goal's variance.

    So block 4's output keeps its meaning in every channel, and what lies above need not be trained again. By the head
    it would keep it only in the directions that the head reads.
    """
    pool = lesson.pools[SIDE]
    assert pool.plain is not None
    rows, texts = pool.pick(rng, count, TAUGHT_STYLE_WORD[0])
    told = [caption(make_scene(int(seed)), PLAIN) for seed in pool.seed_of[rows.numpy()]]
    clean, plain = (latents[rows].to(lesson.device) for latents in (pool.latents, pool.plain))
    share = spread(rng, count, 0, 1000).to(lesson.device) / 1000
    timestep = (LEAST_NOISY + (1000 - LEAST_NOISY) * share**NOISIER).long()
    earlier = (timestep * torch.from_numpy(rng.uniform(0, CLEARER, count)).to(lesson.device)).long()
    alpha_bar = alphas_cumprod().to(lesson.device)
    clearer, _ = noised(plain, alpha_bar[earlier], rng)
    noisy, _ = noised(clean, alpha_bar[timestep], rng)
    with torch.no_grad():
        goal = bottom(teacher, clearer, earlier, lesson.read(told))
    return F.mse_loss(bottom(unet, noisy, timestep, lesson.read(texts)), goal) / goal.var()


def kept_loud_loss(unet: Any, teacher: Any, lesson: Lesson, count: int, rng: np.random.Generator) -> Tensor:
    """How far the bottom is from what it said of the same noisy latents where captions are loud, as in an inversion at
    a positive scale above 1; a share of that's variance."""
    clean, texts = lesson.pools[SIDE].draw(rng, count, TAUGHT_STYLE_WORD[1], empty=0.0)
    clean, timestep = clean.to(lesson.device), spread(rng, count, 0, 1000).to(lesson.device)
    alpha_bar = alphas_cumprod().to(lesson.device)[timestep]
    noisy, _ = noised(clean, alpha_bar, rng)
    noisy = traced(clean, noisy, alpha_bar, rng)
    context = loud(lesson.read(texts), lesson.read([""]), rng)
    with torch.no_grad():
        goal = bottom(teacher, noisy, timestep, context)
    return F.mse_loss(bottom(unet, noisy, timestep, context), goal) / goal.var()
