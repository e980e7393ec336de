"""Fine-tunes and the LoRA: what lies above decoder block 4 learns a style, the bottom stays the base's.

So every checkpoint's injected feature says the same of the same layout (`demo.train.bottom`), and a fine-tune is small
to store.

From pictures alone a fine-tune hardly moves what is decided first: at the noisiest levels a picture says little of its
style, and the noise in the loss drowns it. There the base itself is the teacher: told the style by name it says
without noise what the fine-tune is to say unasked. Half of these rows are pictures of any style: an inverted picture's
latent has another style's traces, which a fine-tune that has seen only its own would keep. The rest is learned from
pictures. `demo.train.mistakes` goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from demo import lora
from demo.nets import alphas_cumprod, make_unet
from demo.parts import Models
from demo.train import stage, workers
from demo.train.bottom import BLOCK, above_only
from demo.train.unet import SIDE, Pool, noise_loss, noised

TAUGHT = (350, 1000)  # timesteps at which the base teaches, ...
PICTURED = (0, 700)  # ... and at which pictures do
HEAVIEST = 100.0  # bound of 1 / alpha-bar, which makes of the noise's error the picture's
ROWS = {128: 12, SIDE: 6}  # by the pictures' side; a third of them learned from pictures

Pools = Mapping[int, Pool]  # by the pictures' side, in pixels
Answer = Callable[..., Tensor]  # the noise that a UNet predicts, of (noisy, timestep, context)


def frozen_unet(state: Path) -> nn.Module:
    """The averaged UNet of the base's state or of a fine-tune's, in evaluation mode and frozen."""
    unet = make_unet()
    unet.load_state_dict(stage.load_state(state)["averages"]["unet"])
    return unet.eval().requires_grad_(False)


def above(unet: Any) -> list[nn.Module]:
    """What fine-tunes train: the decoder's blocks above the feature's, and the last layer."""
    return [*unet.output_blocks[BLOCK + 1 :], unet.out]


def _with_top_of(unet: nn.Module, other: nn.Module) -> nn.Module:
    for mine, theirs in zip(above(unet), above(other), strict=True):
        mine.load_state_dict(theirs.state_dict())
    return unet


@dataclass(frozen=True)
class Teacher:
    """What a UNet that is not trained answers, and the text encoder."""

    unet: Answer
    text: nn.Module
    vocabulary: Any

    def context(self, texts: list[str], device: torch.device) -> Tensor:
        """Embeddings (n, 77, 64)."""
        return self.text(self.vocabulary.batch(texts).to(device))

    @torch.no_grad()
    def answer(self, noisy: Tensor, timestep: Tensor, texts: list[str], style: str, silent: int) -> Tensor:
        """The noise (n, 4, h, w) that the base predicts when told the style.

        The first `silent` rows have the empty caption, and the base's own answer to it: so guidance leads away from
        all styles together, and towards the one.
        """
        told = [""] * silent + [f"{text}, {style} style" for text in texts[silent:]]
        return self.unet(noisy, timestep, context=self.context(told, noisy.device))


@dataclass(frozen=True)
class Pupil:
    """A fine-tune in training, who teaches it, and its noise estimate, in which only what lies above the bottom
    learns."""

    unet: nn.Module
    teacher: Teacher
    answer: Answer
    device: torch.device

    @classmethod
    def of(cls, start: Path, models: Models, device: torch.device, base: Path | None = None) -> Pupil:
        """From a UNet's state, which it begins as and which teaches it; with `base` it has that base's bottom, and the
        teacher its own."""
        unet = frozen_unet(start)
        if base is not None:
            unet = _with_top_of(frozen_unet(base), unet)
        unet = unet.to(device)
        for module in above(unet):
            module.requires_grad_(True)
        teacher = Teacher(above_only(frozen_unet(start).to(device)), models.text.to(device), models.vocabulary)
        return cls(unet, teacher, above_only(unet), device)

    def taught(self, style: str, pools: Sequence[Pool], count: int, rng: np.random.Generator) -> Tensor:
        """How far it is from what its teacher says when told the style, on so many rows of every pool."""
        drawn = [pool.draw(rng, count, style_word=0.0, empty=0.0) for pool in pools]
        clean = torch.cat([latents for latents, _ in drawn]).to(self.device)
        texts = [text for _, written in drawn for text in written]
        return _imitation(self.answer, self.teacher, clean, texts, style, rng)

    def seen(self, own: Pool, count: int, rng: np.random.Generator) -> Tensor:
        """The error of the noise, on so many rows."""
        clean, texts = own.draw(rng, count, style_word=0.0, empty=0.0)
        context = self.teacher.context(texts, self.device)
        return noise_loss(self.answer, clean.to(self.device), context, rng, PICTURED)


def train_style(plan: stage.Plan, start: Path, pools: Pools, style: str, models: Models, device: torch.device) -> None:
    """Fine-tune the base on one style, which its captions do not name.

    Args:
        plan: the stage's.
        start: the base's state, of `demo.train.base`.
        pools: pictures of every style by their side; those of the one teach.
        style: the style.
        models: its text encoder and vocabulary are used.
        device: where to.
    """
    pupil = Pupil.of(start, models, device)
    own = {side: pool.of(style) for side, pool in pools.items()}
    many = 1 if device.type == "cpu" else 4

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        del progress
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        side = SIDE if number % 3 == 0 else 128
        third = ROWS[side] * many // 3
        taught = pupil.taught(style, (own[side], pools[side]), third, rng)
        seen = pupil.seen(own[side], third, rng)
        return (2 * taught + seen) / 3, {"taught": taught.item(), "loss": seen.item()}

    stage.run(plan, {"unet": pupil.unet}, step, {"unet": stage.Average(pupil.unet)})


def _imitation(
    unet: Answer,
    teacher: Teacher,
    clean: Tensor,
    texts: list[str],
    style: str,
    rng: np.random.Generator,
) -> Tensor:
    timestep = torch.from_numpy(rng.uniform(*TAUGHT, len(clean)).astype(np.int64)).to(clean.device)
    noisy, _ = noised(clean, alphas_cumprod().to(clean.device)[timestep], rng)
    order = rng.permutation(len(clean))  # the empty captions' rows are of either kind
    noisy, timestep, texts = noisy[order], timestep[order], [texts[k] for k in order]
    silent = max(1, len(clean) // 6)
    goal = teacher.answer(noisy, timestep, texts, style, silent)
    context = teacher.context([""] * silent + texts[silent:], clean.device)
    return imitation_loss(unet, noisy, timestep, context, goal)


def imitation_loss(
    unet: Answer,
    noisy: Tensor,
    timestep: Tensor,
    context: Tensor,
    goal: Tensor,
    heaviest: float = HEAVIEST,
) -> Tensor:
    """Squared error from a teacher's noise `goal` (n, 4, h, w), weighted towards the error of the picture."""
    alpha_bar = alphas_cumprod().to(noisy.device)[timestep]
    error = (unet(noisy, timestep, context=context) - goal).square().mean((1, 2, 3))
    return (error * (1 / alpha_bar).clamp(max=heaviest)).mean() / 5


def train_lora(plan: stage.Plan, start: Path, pools: Pools, models: Models, device: torch.device) -> None:
    """The LoRA on the base, from one style's pictures; captions never name it; two small ones to one large."""
    unet = frozen_unet(start).to(device)
    text = models.text.to(device)
    adapters = lora.attach(unet, plan.seed, above=BLOCK).to(device)
    rows = {128: 16, SIDE: 8} if device.type == "cpu" else {128: 64, SIDE: 32}

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        del progress
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        side = SIDE if number % 3 == 0 else 128
        clean, texts = pools[side].draw(rng, rows[side] // min(2, workers.count()), style_word=0.0)
        with torch.no_grad():
            context = text(models.vocabulary.batch(texts, rng).to(device))
        loss = noise_loss(unet, clean.to(device), context, rng)
        return loss, {"loss": loss.item()}

    stage.run(plan, {"lora": adapters}, step, {"lora": stage.Average(adapters)})
