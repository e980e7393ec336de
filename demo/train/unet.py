"""Stage 3: the text encoder, with a UNet that is not shipped; and what all UNets' trainings share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from demo.nets import alphas_cumprod, make_unet
from demo.text import TextEncoder, Vocabulary
from demo.train import latents, stage, workers
from demo.train.latents import Drawings
from demo.world import caption, make_scene

SIDE = 192  # the side of the pictures the checkpoints are made for, in pixels
EMPTY_CAPTIONS = 0.1
OFFSET = 0.1  # standard deviation of the noise's offset, one a row and channel
TRACED, TRACE = 0.7, 0.6  # share of rows whose noise holds a trace of the picture, and most of it
LOUD, LESS_EMPTY = (1.5, 4.0), (0.0, 0.7)  # how many times the caption, and less how many times the empty one
SMALL_PICTURES = 0.8  # share of the base's budget spent at 128 pixels; then mostly at SIDE


@dataclass(frozen=True)
class Pool:
    """Scaled latents of some styles at one size, with the style and the scene of every row.

    Where wanted, with the same scenes drawn once more: in one style for all (`plain`), or with a mistake (`mistaken`).
    """

    latents: torch.Tensor
    styles: tuple[str, ...]
    style_of: np.ndarray
    seed_of: np.ndarray
    plain: torch.Tensor | None = None
    mistaken: torch.Tensor | None = None

    @classmethod
    def load(cls, folder: Path, styles: Sequence[str], size: int, scale: float, plain: str | None = None) -> Pool:
        """Read the pool from the encoded drawings; with `plain`, also the scenes drawn in that style."""
        drawings = [Drawings(style, size) for style in styles]
        again = [replace(each, drawn_as=plain) for each in drawings]
        pool, other = cls._read(folder, drawings, again, scale)
        return replace(pool, plain=other) if plain else pool

    @classmethod
    def load_crowded(cls, folder: Path, styles: Sequence[str], size: int, scale: float) -> Pool:
        """Read the scenes of two and three things, with their mistakes."""
        drawings = [Drawings(style, size, crowded=True) for style in styles]
        pool, mistaken = cls._read(folder, drawings, [replace(each, mistaken=True) for each in drawings], scale)
        return replace(pool, mistaken=mistaken)

    @classmethod
    def _read(
        cls, folder: Path, drawings: Sequence[Drawings], again: Sequence[Drawings], scale: float
    ) -> tuple[Pool, torch.Tensor]:
        """A pool, and the same rows' latents drawn once more."""
        pairs = [
            (latents.load(folder, one), latents.load(folder, other))
            for one, other in zip(drawings, again, strict=True)
        ]
        many = [min(len(one), len(other)) for one, other in pairs]  # a budget may have ended one
        first, second = ([pair[k][:n] for pair, n in zip(pairs, many, strict=True)] for k in (0, 1))
        names = np.concatenate([np.full(n, k) for k, n in enumerate(many)])
        seeds = [seed for each, n in zip(drawings, many, strict=True) for seed in each.seeds(n)]
        pool = cls(torch.cat(first) * scale, tuple(each.style for each in drawings), names, np.asarray(seeds))
        return pool, torch.cat(second) * scale

    @cached_property
    def things_of(self) -> np.ndarray:
        """How many things every row's scene has: (n,)."""
        return np.array([len(make_scene(int(seed)).things) for seed in self.seed_of])

    def of(self, style: str) -> Pool:
        """One style's rows."""
        return self._rows(self.style_of == self.styles.index(style))

    def without(self, style: str) -> Pool:
        """All but one style's rows."""
        return self._rows(self.style_of != self.styles.index(style))

    def _rows(self, wanted: np.ndarray) -> Pool:
        rows = np.flatnonzero(wanted)
        plain, mistaken = (None if each is None else each[rows] for each in (self.plain, self.mistaken))
        return Pool(self.latents[rows], self.styles, self.style_of[rows], self.seed_of[rows], plain, mistaken)

    def draw(
        self, rng: np.random.Generator, count: int, style_word: float, empty: float = EMPTY_CAPTIONS
    ) -> tuple[torch.Tensor, list[str]]:
        """Random latents (count, 4, h, w) and captions; `style_word` and `empty` are the chances of a style's name and
        of an empty caption."""
        rows, texts = self.pick(rng, count, style_word, empty)
        return self.latents[rows], texts

    def pick(
        self,
        rng: np.random.Generator,
        count: int,
        style_word: float,
        empty: float = EMPTY_CAPTIONS,
        often: np.ndarray | None = None,
    ) -> tuple[torch.Tensor, list[str]]:
        """Random rows (count,) and their captions, as `draw` has them; `often` (n,) says how often every row comes."""
        if often is None:
            rows = rng.integers(len(self.latents), size=count)
        else:
            rows = rng.choice(len(self.latents), count, p=often / often.sum())
        texts = []
        for row in rows:
            style = self.styles[self.style_of[row]] if rng.random() < style_word else None
            text = caption(make_scene(int(self.seed_of[row])), style, rng)
            texts.append("" if rng.random() < empty else text)
        return torch.from_numpy(rows), texts


def noise_loss(
    unet: Callable[..., torch.Tensor],
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


def traced(
    clean: torch.Tensor, noisy: torch.Tensor, alpha_bar: torch.Tensor, rng: np.random.Generator
) -> torch.Tensor:
    """Noisy latents (n, 4, h, w) whose noise, in a share `TRACED` of the rows, holds up to `TRACE` of the clean ones,
    as an inverted picture's does."""
    trace = torch.from_numpy(rng.uniform(0, TRACE, len(clean)) * (rng.random(len(clean)) < TRACED)).float()
    return noisy + ((1 - alpha_bar).sqrt() * trace.to(noisy.device)).view(-1, 1, 1, 1) * clean


def loud(captions: torch.Tensor, empty: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Embeddings (n, 77, w) as loud as the method's condition is at positive scales above 1: several times the
    captions', less a part of the `empty` ones' (Ditail, arXiv 2312.08873, section "condition scaling")."""
    times, less = (torch.from_numpy(rng.uniform(*span, len(captions))).float() for span in (LOUD, LESS_EMPTY))
    return times.to(captions.device).view(-1, 1, 1) * captions - less.to(captions.device).view(-1, 1, 1) * empty


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
