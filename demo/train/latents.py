"""Stage 2: the pictures for the UNet, drawn and encoded once.

Every latent is of a scene of its own. Scene seeds are split by purpose: the bench's held-out scenes
(below `TRAINING_SEEDS`) are never trained on.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from demo.nets import Vae
from demo.styles import STYLES, draw
from demo.train.vae import to_tensor
from demo.world import SHAPES, Scene, make_scene, place

log = logging.getLogger(__name__)

TRAINING_SEEDS = 1_000_000
STYLE_SEEDS = 100_000  # distance between the styles' seeds
CROWDED_SEEDS = 20_000_000  # where those of scenes of two and three things begin
ONE_TOO_MANY = 0.15  # share of mistakes that are a thing too many; the others are a thing of another shape
TAKEN_OVER = 0.6  # share of the latter in which the shape is that of another thing of the scene


@dataclass(frozen=True)
class Drawings:
    """Which drawings: a style's scenes at one size, in pixels.

    They are drawn in another style where `drawn_as` names one, are scenes of two and three things where they are to be
    `crowded`, and have a mistake in them (`mistaken`) where one is asked for.
    """

    style: str
    size: int
    drawn_as: str | None = None
    crowded: bool = False
    mistaken: bool = False

    def __str__(self) -> str:
        words = [self.style]
        if self.drawn_as not in (None, self.style):
            words.append(f"as-{self.drawn_as}")
        words += [word for word in ("crowded", "mistaken") if getattr(self, word)]
        return "-".join([*words, str(self.size)])

    def paths(self, folder: Path) -> tuple[Path, Path]:
        """The file that says how many are encoded, once that is decided, and the latents'."""
        return folder / f"latents-{self}.done", folder / f"latents-{self}.npy"

    def seeds(self, many: int) -> list[int]:
        """The first scenes' seeds."""
        number = list(STYLES).index(self.style)
        if not self.crowded:
            return [TRAINING_SEEDS + STYLE_SEEDS * number + k for k in range(many)]
        seeds = count(CROWDED_SEEDS + 10 * STYLE_SEEDS * number)
        return list(islice((seed for seed in seeds if len(make_scene(seed).things) > 1), many))

    def picture(self, seed: int) -> np.ndarray:
        """One scene's drawing: (size, size, 3) uint8."""
        scene = make_scene(seed)
        return draw(mistake(scene) if self.mistaken else scene, self.drawn_as or self.style, self.size)


def mistake(scene: Scene) -> Scene:
    """The scene with one mistake of the kinds that checkpoints make: mostly a thing of another shape, in its colour
    and place, else a thing too many. The same scene has always the same."""
    rng = np.random.default_rng([7, scene.seed])
    things = list(scene.things)
    if len(things) < 3 and rng.random() < ONE_TOO_MANY:
        more = place(rng, things, 3)
        if more is not None:
            return replace(scene, things=(*things, more))
    number = int(rng.integers(len(things)))
    right = things[number].shape
    others = [thing.shape for thing in things if thing.shape != right]
    shapes = others if others and rng.random() < TAKEN_OVER else [shape for shape in SHAPES if shape != right]
    things[number] = replace(things[number], shape=str(rng.choice(shapes)))
    return replace(scene, things=tuple(things))


@torch.no_grad()
def encode_style(
    folder: Path, vae: Vae, drawings: Drawings, many: int, budget_seconds: float, device: torch.device
) -> None:
    """Draw and encode up to `many` of a style's scenes; keeps what there is when the budget ends. Resumable."""
    done_path, path = drawings.paths(folder)
    if done_path.exists():
        return
    size, seeds = drawings.size, drawings.seeds(many)
    chunk = 2**19 // size**2
    shape = (many, 4, size // 8, size // 8)
    if path.exists():
        store = np.load(path, mmap_mode="r+")
    else:
        store = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    done = int(np.count_nonzero(store.reshape(many, -1).any(axis=1))) // chunk * chunk
    start = time.monotonic()
    for at in tqdm(range(done, many, chunk), desc=f"latents {drawings}", mininterval=20):
        if time.monotonic() - start > budget_seconds:
            break
        drawn = np.stack([drawings.picture(seed) for seed in seeds[at : at + chunk]])
        store[at : at + chunk] = vae.encode(to_tensor(drawn, device))[0].cpu().numpy()
        done = at + len(drawn)
    store.flush()
    done_path.write_text(str(done), encoding="utf-8")
    log.info("latents %s: %d in %.0f s", drawings, done, time.monotonic() - start)


def load(folder: Path, drawings: Drawings) -> torch.Tensor:
    """The drawings' latents, unscaled: (n, 4, size/8, size/8); row k is of scene `drawings.seeds(n)[k]`."""
    done_path, path = drawings.paths(folder)
    return torch.from_numpy(np.load(path)[: int(done_path.read_text(encoding="utf-8"))])


def scale_factor(folder: Path, styles: tuple[str, ...], size: int) -> float:
    """One over the standard deviation of the latents, kept in a file once measured."""
    path = folder / "scale_factor.txt"
    if not path.exists():
        std = torch.cat([load(folder, Drawings(style, size)).flatten() for style in styles]).std().item()
        path.write_text(f"{1 / std:.5f}", encoding="utf-8")
    return float(path.read_text(encoding="utf-8"))
