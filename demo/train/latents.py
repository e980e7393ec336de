"""Stage 2: the pictures for the UNet, drawn and encoded once.

Every latent is of a scene of its own. Scene seeds are split by purpose: the bench's held-out scenes
(below `TRAINING_SEEDS`) are never trained on.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from demo.nets import Vae
from demo.styles import STYLES, draw
from demo.train.vae import to_tensor
from demo.world import make_scene

log = logging.getLogger(__name__)

TRAINING_SEEDS = 1_000_000
STYLE_SEEDS = 100_000  # distance between the styles' seeds


def scene_seed(style: str, index: int) -> int:
    """The seed of a style's training scene."""
    return TRAINING_SEEDS + STYLE_SEEDS * list(STYLES).index(style) + index


@torch.no_grad()
def encode_style(
    folder: Path,
    vae: Vae,
    style: str,
    size: int,
    count: int,
    budget_seconds: float,
    device: torch.device,
    drawn_as: str | None = None,
) -> None:
    """Draw and encode up to `count` of a style's scenes; keeps what there is when the budget ends. Resumable.

    With `drawn_as` the same scenes are drawn in that other style.
    """
    drawn_as = drawn_as or style
    done_path, path = _paths(folder, style, size, drawn_as)
    if done_path.exists():
        return
    chunk = 2**19 // size**2
    shape = (count, 4, size // 8, size // 8)
    if path.exists():
        store = np.load(path, mmap_mode="r+")
    else:
        store = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    done = int(np.count_nonzero(store.reshape(count, -1).any(axis=1))) // chunk * chunk
    start = time.monotonic()
    for at in tqdm(range(done, count, chunk), desc=f"latents {style} as {drawn_as} {size}", mininterval=20):
        if time.monotonic() - start > budget_seconds:
            break
        many = min(chunk, count - at)
        drawn = np.stack([draw(make_scene(scene_seed(style, at + k)), drawn_as, size) for k in range(many)])
        store[at : at + many] = vae.encode(to_tensor(drawn, device))[0].cpu().numpy()
        done = at + many
    store.flush()
    done_path.write_text(str(done), encoding="utf-8")
    log.info("latents %s as %s %d: %d in %.0f s", style, drawn_as, size, done, time.monotonic() - start)


def _paths(folder: Path, style: str, size: int, drawn_as: str) -> tuple[Path, Path]:
    name = f"latents-{style}" if drawn_as == style else f"latents-{style}-as-{drawn_as}"
    return folder / f"{name}-{size}.done", folder / f"{name}-{size}.npy"


def load(folder: Path, style: str, size: int, drawn_as: str | None = None) -> torch.Tensor:
    """The style's latents, unscaled: (n, 4, size/8, size/8); row k is scene `scene_seed(style, k)`."""
    done_path, path = _paths(folder, style, size, drawn_as or style)
    return torch.from_numpy(np.load(path)[: int(done_path.read_text(encoding="utf-8"))])


def scale_factor(folder: Path, styles: tuple[str, ...], size: int) -> float:
    """One over the standard deviation of the latents, kept in a file once measured."""
    path = folder / "scale_factor.txt"
    if not path.exists():
        std = torch.cat([load(folder, style, size).flatten() for style in styles]).std().item()
        path.write_text(f"{1 / std:.5f}", encoding="utf-8")
    return float(path.read_text(encoding="utf-8"))
