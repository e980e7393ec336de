"""Stage 3: the text encoder, with a UNet that is not shipped; and what all UNets' trainings share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from demo.nets import alphas_cumprod, make_unet
from demo.text import TextEncoder, Vocabulary
from demo.train import latents, stage, workers
from demo.world import caption, make_scene

SIDE = 192  # the side of the pictures the checkpoints are made for, in pixels
EMPTY_CAPTIONS = 0.1
OFFSET = 0.1  # standard deviation of the noise's offset, one a row and channel
SMALL_PICTURES = 0.8  # share of the base's budget spent at 128 pixels; then mostly at SIDE


@dataclass(frozen=True)
class Pool:
    """Scaled latents of some styles at one size, with the style and the scene of every row.

    `plain` are the same scenes drawn in one style for all, where they are wanted.
    """

    latents: torch.Tensor
    styles: tuple[str, ...]
    style_of: np.ndarray
    seed_of: np.ndarray
    plain: torch.Tensor | None = None

    @classmethod
    def load(cls, folder: Path, styles: Sequence[str], size: int, scale: float, plain: str | None = None) -> Pool:
        """Read the pool from the encoded drawings; with `plain`, also the scenes drawn in that style."""
        parts = [latents.load(folder, style, size) for style in styles]
        again = [latents.load(folder, style, size, plain) for style in styles]
        parts = [part[: len(other)] for part, other in zip(parts, again, strict=True)]  # a budget may have ended one
        again = [other[: len(part)] for part, other in zip(parts, again, strict=True)]
        names = np.concatenate([np.full(len(part), k) for k, part in enumerate(parts)])
        seeds = [latents.scene_seed(s, k) for s, part in zip(styles, parts, strict=True) for k in range(len(part))]
        return cls(
            torch.cat(parts) * scale,
            tuple(styles),
            names,
            np.asarray(seeds),
            torch.cat(again) * scale if plain else None,
        )

    def of(self, style: str) -> Pool:
        """One style's rows."""
        rows = np.flatnonzero(self.style_of == self.styles.index(style))
        plain = None if self.plain is None else self.plain[rows]
        return Pool(self.latents[rows], self.styles, self.style_of[rows], self.seed_of[rows], plain)

    def draw(
        self, rng: np.random.Generator, count: int, style_word: float, empty: float = EMPTY_CAPTIONS
    ) -> tuple[torch.Tensor, list[str]]:
        """Random latents (count, 4, h, w) and captions; `style_word` and `empty` are the chances of a style's name and
        of an empty caption."""
        rows, texts = self.pick(rng, count, style_word, empty)
        return self.latents[rows], texts

    def pick(
        self, rng: np.random.Generator, count: int, style_word: float, empty: float = EMPTY_CAPTIONS
    ) -> tuple[torch.Tensor, list[str]]:
        """Random rows (count,) and their captions, as `draw` has them."""
        rows = rng.integers(len(self.latents), size=count)
        texts = []
        for row in rows:
            style = self.styles[self.style_of[row]] if rng.random() < style_word else None
            text = caption(make_scene(int(self.seed_of[row])), style, rng)
            texts.append("" if rng.random() < empty else text)
        return torch.from_numpy(rows), texts


def noise_loss(
    unet: nn.Module,
    clean: torch.Tensor,
    context: torch.Tensor,
    rng: np.random.Generator,
    timesteps: tuple[int, int] = (0, 1000),
) -> torch.Tensor:
    """Weighted squared error of the predicted noise at random timesteps; clean is (n, 4, h, w), scaled."""
    timestep = spread(rng, len(clean), *timesteps).to(clean.device)
    alpha_bar = alphas_cumprod().to(clean.device)[timestep]
    noisy, noise = noised(clean, alpha_bar, rng)
    error = (unet(noisy, timestep, context=context) - noise).square().mean((1, 2, 3))
    return (error * loss_weight(alpha_bar)).mean()


def spread(rng: np.random.Generator, count: int, first: int, end: int) -> torch.Tensor:
    """Timesteps (count,) from `first` to before `end`, one in each of `count` equal parts: less variance."""
    strata = (np.arange(count) + rng.uniform(size=count)) / count
    return torch.from_numpy((first + strata * (end - first)).astype(np.int64))


def noised(
    clean: torch.Tensor, alpha_bar: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (n, 4, h, w) mixed with noise at levels (n,), and the noise, which has an `OFFSET`.

    White noise over a channel's hundreds of numbers has a mean of nearly nothing: the mean of the noisiest latent
    still tells a picture's paper, and a UNet that has learned to copy it draws on an inverted picture's paper,
    whatever its style.
    """
    noise = rng.standard_normal(tuple(clean.shape), dtype=np.float32)
    noise += OFFSET * rng.standard_normal((*clean.shape[:2], 1, 1), dtype=np.float32)
    noise = torch.from_numpy(noise).to(clean.device)
    signal, share = (part.view(-1, 1, 1, 1) for part in (alpha_bar.sqrt(), (1 - alpha_bar).sqrt()))
    return signal * clean + share * noise, noise


def loss_weight(alpha_bar: torch.Tensor) -> torch.Tensor:
    """How much the noise error counts at a noise level (n,): most in the middle, where shapes are decided.

    Clean end: the min-SNR rule (arXiv 2303.09556) with 5. Then a step towards the error of v (arXiv 2202.00512),
    1 / alpha-bar times that of the noise, but up to 4 only: with all of it colours and backgrounds, decided where
    there is most noise, were learned first and drowned the shapes.
    """
    clean_end = (5 * (1 - alpha_bar) / alpha_bar).clamp(max=1)
    return clean_end * (1 / alpha_bar).clamp(max=4) / 4


def train_text(plan: stage.Plan, pools: dict[int, Pool], vocabulary: Vocabulary, device: torch.device) -> None:
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
