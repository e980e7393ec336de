"""Stages 3 and 4: the base UNet with the text encoder, then one fine-tune per style."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from demo import latents, stage, workers
from demo.nets import alphas_cumprod, make_unet
from demo.text import TextEncoder, Vocabulary
from demo.world import caption, make_scene

SIDE = 192  # the side of the pictures the checkpoints are made for, in pixels
EMPTY_CAPTIONS = 0.1
SMALL_PICTURES = 0.72  # share of the base's budget spent at 128 pixels; then mostly at SIDE


@dataclass(frozen=True)
class Pool:
    """Scaled latents of some styles at one size, with the style and the scene of every row."""

    latents: torch.Tensor
    styles: tuple[str, ...]
    style_of: np.ndarray
    seed_of: np.ndarray

    @classmethod
    def load(cls, folder: Path, styles: Sequence[str], size: int, scale: float) -> Pool:
        """Read the pool from the encoded drawings."""
        parts = [latents.load(folder, style, size) for style in styles]
        names = np.concatenate([np.full(len(part), k) for k, part in enumerate(parts)])
        seeds = [latents.scene_seed(s, k) for s, part in zip(styles, parts, strict=True) for k in range(len(part))]
        return cls(torch.cat(parts) * scale, tuple(styles), names, np.asarray(seeds))

    def draw(self, rng: np.random.Generator, count: int, style_word: float) -> tuple[torch.Tensor, list[str]]:
        """Random latents (count, 4, h, w) and captions; the style is named with chance `style_word`."""
        rows = rng.integers(len(self.latents), size=count)
        texts = []
        for row in rows:
            style = self.styles[self.style_of[row]] if rng.random() < style_word else None
            text = caption(make_scene(int(self.seed_of[row])), style, rng)
            texts.append("" if rng.random() < EMPTY_CAPTIONS else text)
        return self.latents[torch.from_numpy(rows)], texts


def noise_loss(unet: nn.Module, clean: torch.Tensor, context: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Weighted squared error of the predicted noise at random timesteps; clean is (n, 4, h, w), scaled."""
    count = len(clean)
    strata = (np.arange(count) + rng.uniform(size=count)) / count  # spread over the schedule: less variance
    timestep = torch.from_numpy((strata * 1000).astype(np.int64)).to(clean.device)
    noise = torch.from_numpy(rng.standard_normal(tuple(clean.shape), dtype=np.float32)).to(clean.device)
    alpha_bar = alphas_cumprod().to(clean.device)[timestep].view(-1, 1, 1, 1)
    noisy = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise
    error = (unet(noisy, timestep, context=context) - noise).square().mean((1, 2, 3))
    return (error * loss_weight(alpha_bar.flatten())).mean()


def loss_weight(alpha_bar: torch.Tensor) -> torch.Tensor:
    """How much the noise error counts at a noise level (n,): less in the clean end, more in the noisy one.

    Layout and colour, which is what captions speak of, are decided where there is much noise; the plain error
    of the noise hardly sees them there. Clean end: the min-SNR rule (arXiv 2303.09556) with 5. Noisy end: the
    error of v (arXiv 2202.00512), which is 1 / alpha-bar times that of the noise, up to 50. Without it the
    style and the background come from the starting noise and not from the caption.
    """
    clean_end = (5 * (1 - alpha_bar) / alpha_bar).clamp(max=1)
    return clean_end * (1 / alpha_bar).clamp(max=50) / 10


def train_base(plan: stage.Plan, pools: dict[int, Pool], vocabulary: Vocabulary, device: torch.device) -> None:
    """Train UNet and text encoder together: first small pictures, then large ones."""
    torch.manual_seed(plan.seed)
    unet, text = make_unet().to(device), TextEncoder(vocabulary.rows).to(device)
    rows = {128: 16, SIDE: 8} if device.type == "cpu" else {128: 64, SIDE: 32}
    many = {size: count // min(2, workers.count()) for size, count in rows.items()}  # of each worker

    def step(number: int, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        size = 128 if progress < SMALL_PICTURES or number % 10 == 0 else SIDE
        clean, texts = pools[size].draw(rng, many[size], style_word=0.85)
        context = text(vocabulary.batch(texts, rng).to(device))
        loss = noise_loss(unet, clean.to(device), context, rng)
        return loss, {"loss": loss.item(), "size": size}

    modules = {"unet": unet, "text": text}
    stage.run(plan, modules, step, {name: stage.Average(module) for name, module in modules.items()})


def load_base(path: Path, vocabulary: Vocabulary, device: torch.device) -> tuple[nn.Module, TextEncoder]:
    """The averaged base UNet and the text encoder (frozen, in evaluation mode)."""
    averages = stage.load_state(path)["averages"]
    unet, text = make_unet(), TextEncoder(vocabulary.rows)
    unet.load_state_dict(averages["unet"])
    text.load_state_dict(averages["text"])
    return unet.to(device), text.to(device).eval().requires_grad_(False)


def style_step(
    plan: stage.Plan,
    unet: nn.Module,
    text: TextEncoder,
    pool: Pool,
    vocabulary: Vocabulary,
    style_word: float,
    device: torch.device,
) -> Callable[[int, float], tuple[torch.Tensor, dict[str, float]]]:
    """The step of a style's fine-tune and of the LoRA: one style's pictures, the text encoder left alone."""
    many = (8 if device.type == "cpu" else 32) // min(2, workers.count())

    def step(number: int, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        del progress
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        clean, texts = pool.draw(rng, many, style_word)
        with torch.no_grad():
            context = text(vocabulary.batch(texts, rng).to(device))
        loss = noise_loss(unet, clean.to(device), context, rng)
        return loss, {"loss": loss.item()}

    return step


def train_style(plan: stage.Plan, base: Path, pool: Pool, vocabulary: Vocabulary, device: torch.device) -> None:
    """Fine-tune the base on one style; its captions seldom name the style."""
    unet, text = load_base(base, vocabulary, device)
    step = style_step(plan, unet, text, pool, vocabulary, 0.2, device)
    stage.run(plan, {"unet": unet}, step, {"unet": stage.Average(unet)})
