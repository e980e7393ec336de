"""Stages 4 and 6: one UNet per style, and the LoRA, from the base.

From pictures alone a fine-tune hardly moves what is decided first: at the noisiest levels a picture says little of its
style, and the noise in the loss drowns it. There the base itself is the teacher: told the style by name it says
without noise what the fine-tune is to say unasked. The rest is learned from pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from demo.nets import alphas_cumprod
from demo.text import TextEncoder, Vocabulary
from demo.train import stage, workers
from demo.train.unet import SIDE, Pool, load_base, noise_loss, noised

TAUGHT = (550, 1000)  # timesteps at which the base teaches, ...
PICTURED = (0, 700)  # ... and at which pictures do
EMPHASIS = 1.5  # how far from the base's unstyled answer to its styled one, and beyond
HEAVIEST = 100.0  # bound of 1 / alpha-bar, which makes of the noise's error the picture's

Step = Callable[[int, float], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class Teacher:
    """A UNet that is not trained, and the base's text encoder."""

    unet: nn.Module
    text: TextEncoder
    vocabulary: Vocabulary

    def context(self, texts: list[str], device: torch.device) -> Tensor:
        """Embeddings (n, 77, 64)."""
        return self.text(self.vocabulary.batch(texts).to(device))

    @torch.no_grad()
    def says(self, noisy: Tensor, timestep: Tensor, texts: list[str]) -> Tensor:
        """The noise (n, 4, h, w) that the UNet predicts."""
        return self.unet(noisy, timestep, context=self.context(texts, noisy.device))

    @torch.no_grad()
    def answer(self, noisy: Tensor, timestep: Tensor, texts: list[str], style: str, silent: int) -> Tensor:
        """The noise (n, 4, h, w) that the base predicts when told the style, emphasised.

        The first `silent` rows have the empty caption, and the base's own answer to it: so guidance leads away from
        all styles together, and towards the one.
        """
        device = noisy.device
        plain = self.context([""] * silent + texts[silent:], device)
        styled = self.context([f"{text}, {style} style" for text in texts], device)
        both = torch.cat([plain, styled])
        own, told = self.unet(noisy.repeat(2, 1, 1, 1), timestep.repeat(2), context=both).chunk(2)
        return torch.cat([own[:silent], torch.lerp(own, told, EMPHASIS)[silent:]])


def train_style(
    plan: stage.Plan, base: Path, pools: dict[int, Pool], style: str, vocabulary: Vocabulary, device: torch.device
) -> None:
    """Fine-tune the base on one style, which its captions do not name; `pools` holds its pictures by size."""
    unet, text = load_base(base, vocabulary, device)
    teacher = Teacher(load_base(base, vocabulary, device)[0].eval().requires_grad_(False), text, vocabulary)
    rows = {128: 12, SIDE: 6} if device.type == "cpu" else {128: 48, SIDE: 24}

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        del progress
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        size = SIDE if number % 3 == 0 else 128
        clean, texts = pools[size].draw(rng, rows[size], style_word=0.0, empty=0.0)
        clean = clean.to(device)
        taught = rows[size] * 2 // 3
        silent = max(1, rows[size] // 8)
        imitation = _imitation(unet, teacher, clean[:taught], texts[:taught], style, silent, rng)
        context = teacher.context(texts[taught:], device)
        own = noise_loss(unet, clean[taught:], context, rng, PICTURED)
        return (2 * imitation + own) / 3, {"imitation": imitation.item(), "loss": own.item()}

    stage.run(plan, {"unet": unet}, step, {"unet": stage.Average(unet)})


def _imitation(
    unet: nn.Module,
    teacher: Teacher,
    clean: Tensor,
    texts: list[str],
    style: str,
    silent: int,
    rng: np.random.Generator,
) -> Tensor:
    timestep = torch.from_numpy(rng.uniform(*TAUGHT, len(clean)).astype(np.int64)).to(clean.device)
    noisy, _ = noised(clean, alphas_cumprod().to(clean.device)[timestep], rng)
    goal = teacher.answer(noisy, timestep, texts, style, silent)
    context = teacher.context([""] * silent + texts[silent:], clean.device)
    return imitation_loss(unet, noisy, timestep, context, goal)


def imitation_loss(unet: nn.Module, noisy: Tensor, timestep: Tensor, context: Tensor, goal: Tensor) -> Tensor:
    """Squared error from a teacher's noise `goal` (n, 4, h, w), weighted towards the error of the picture."""
    alpha_bar = alphas_cumprod().to(noisy.device)[timestep]
    error = (unet(noisy, timestep, context=context) - goal).square().mean((1, 2, 3))
    return (error * (1 / alpha_bar).clamp(max=HEAVIEST)).mean() / 5


def lora_step(
    plan: stage.Plan, unet: nn.Module, text: TextEncoder, pools: dict[int, Pool], vocabulary: Vocabulary
) -> Step:
    """The step of the LoRA: one style's pictures, captions that never name it; two small ones to one large."""
    device = next(unet.parameters()).device
    rows = {128: 16, SIDE: 8} if device.type == "cpu" else {128: 64, SIDE: 32}

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        del progress
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        size = SIDE if number % 3 == 0 else 128
        clean, texts = pools[size].draw(rng, rows[size] // min(2, workers.count()), style_word=0.0)
        with torch.no_grad():
            context = text(vocabulary.batch(texts, rng).to(device))
        loss = noise_loss(unet, clean.to(device), context, rng)
        return loss, {"loss": loss.item()}

    return step
