"""Stage 1: the shared VAE, trained on crops of drawings in every style."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from demo.nets import Vae
from demo.styles import STYLES, draw
from demo.train import stage, workers
from demo.train.colour_start import POSTERIOR_STD, colour_start, fit_readout
from demo.world import Scene, make_scene

log = logging.getLogger(__name__)

SIDE = 256
MEAN_WEIGHT = 1e-6  # keeps the latents from growing without end (the KL term's part about the mean)
COLOUR_WEIGHT = 2.0  # GroupNorm makes flat colour the last thing to be learned: ask for it by name
CROPS = ((0.55, 64), (0.85, 128), (1.0, 192))  # until this share of the budget: crops of so many pixels
POLISH_CROPS = ((0.6, 64), (0.85, 128), (1.0, 192))
POLISH_PIXELS = 4 * 64 * 64  # of a step, about
POLISH_SHARES = {"shaded": 0.15, "ink": 0.4, "mosaic": 0.3, "neon": 0.15}  # hatching and tiles are hardest
SQUARED_WEIGHT = 4.0  # a peak signal-to-noise ratio is of squares; outlines are what they feel


def drawings(folder: Path, scenes: int) -> np.ndarray:
    """All drawings for the VAE, made once and kept on disk: (scenes * styles, 256, 256, 3) uint8."""
    path = folder / f"drawings-{scenes}.npy"
    if workers.rank() == 0 and not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / "drawings.tmp.npy"
        shape = (scenes * len(STYLES), SIDE, SIDE, 3)
        out = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
        for index in tqdm(range(shape[0]), desc="drawings", mininterval=10):
            out[index] = draw(make_scene(index // len(STYLES)), list(STYLES)[index % len(STYLES)], SIDE)
        out.flush()
        draft.replace(path)
    workers.wait()
    return np.load(path, mmap_mode="r")


def to_tensor(pictures: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """Pictures (n, h, w, 3) uint8 to (n, 3, h, w) float32 in -1..1."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def crop_corner(rng: np.random.Generator, scene: Scene, crop: int) -> tuple[int, int]:
    """Top left corner (y, x) of a crop on the 8-pixel grid, mostly near an object."""
    if rng.random() < 0.7:
        thing = scene.things[int(rng.integers(len(scene.things)))]
        centre = np.array([thing.y, thing.x]) + rng.uniform(-1, 1, 2) * thing.radius
    else:
        centre = rng.uniform(0, 1, 2)
    corner = np.clip(centre * SIDE - crop / 2, 0, SIDE - crop)
    y, x = (np.round(corner / 8) * 8).astype(int)
    return int(y), int(x)


Places = tuple[np.ndarray, list[tuple[int, int]]]  # pictures' rows, and corners (y, x) in them


def places(
    pictures: np.ndarray, rng: np.random.Generator, count: int, crop: int, shares: Mapping[str, float] | None = None
) -> Places:
    """Where `count` random crops are; with `shares`, so much of them of each style."""
    rows = rng.integers(len(pictures), size=count)
    if shares:
        style = rng.choice(len(STYLES), size=count, p=[shares[name] for name in STYLES])
        rows = rows // len(STYLES) * len(STYLES) + style
    return rows, [crop_corner(rng, make_scene(int(row) // len(STYLES)), crop) for row in rows]


def cut(pictures: np.ndarray, rows: np.ndarray, corners: Sequence[tuple[int, int]], crop: int) -> np.ndarray:
    """Those crops: (count, crop, crop, 3) uint8."""
    found = zip(rows, corners, strict=True)
    return np.stack([pictures[row, y : y + crop, x : x + crop] for row, (y, x) in found])


def batch(pictures: np.ndarray, rng: np.random.Generator, count: int, crop: int) -> np.ndarray:
    """Random crops: (count, crop, crop, 3) uint8."""
    return cut(pictures, *places(pictures, rng, count, crop), crop)


def train(plan: stage.Plan, scenes: int, device: torch.device) -> None:
    """Train the VAE within the plan's budget."""
    pictures = drawings(plan.folder, scenes)
    torch.manual_seed(plan.seed)
    vae = Vae()
    colour_start(vae)
    fit_readout(vae, to_tensor(batch(pictures, np.random.default_rng(plan.seed), 8, 64)))
    _run(plan, vae.to(device), pictures, device)


def polish(plan: stage.Plan, scenes: int, start: Path, device: torch.device) -> None:
    """Train the decoder alone for longer; the latents, and so the UNets, are not touched.

    It is shown parts of whole pictures' latents, encoded once, so that borders and norms are those of use.
    """
    vae = load(start, device)
    pictures = drawings(plan.folder, scenes)
    means = encoded(plan.folder, vae, pictures, device)
    vae.train()
    for module in (vae.decoder, vae.post_quant_conv):
        module.requires_grad_(True)
    many = 1 if device.type == "cpu" else 4

    def step(number: int, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        crop = next(pixels for until, pixels in POLISH_CROPS if progress <= until)
        count = many * max(1, round(POLISH_PIXELS / crop**2))
        rows, corners = places(pictures, rng, count, crop, POLISH_SHARES)
        cells = crop // 8
        mean = torch.stack([means[k, :, y // 8 : y // 8 + cells, x // 8 : x // 8 + cells]
                            for k, (y, x) in zip(rows, corners, strict=True)])  # fmt: skip
        picture = to_tensor(cut(pictures, rows, corners, crop), device)
        noise = torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32))
        decoded = vae.decode((mean + POSTERIOR_STD * noise).to(device))
        absolute, squared = F.l1_loss(decoded, picture), F.mse_loss(decoded, picture)
        return absolute + SQUARED_WEIGHT * squared, {"l1": absolute.item(), "squared": squared.item()}

    stage.run(plan, {"vae": vae}, step, {"vae": stage.Average(vae, 0.99)})


@torch.no_grad()
def encoded(folder: Path, vae: Vae, pictures: np.ndarray, device: torch.device) -> torch.Tensor:
    """The posterior means of all drawings, made once and kept on disk: (n, 4, 32, 32), unscaled."""
    path = folder / f"means-{len(pictures)}.npy"
    if workers.rank() == 0 and not path.exists():
        eights = [np.array(pictures[k : k + 8]) for k in range(0, len(pictures), 8)]
        parts = [vae.encode(to_tensor(eight, device))[0].cpu() for eight in eights]
        draft = folder / "means.tmp.npy"
        np.save(draft, torch.cat(parts).numpy())
        draft.replace(path)
    workers.wait()
    return torch.from_numpy(np.load(path))


def _run(
    plan: stage.Plan,
    vae: Vae,
    pictures: np.ndarray,
    device: torch.device,
) -> None:
    """Train the whole VAE."""
    many = 1 if device.type == "cpu" else 4

    def step(number: int, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        crop = next(pixels for until, pixels in CROPS if progress <= until)
        count = many * max(1, 4 * 64 * 64 // crop**2)
        picture = to_tensor(batch(pictures, rng, count, crop), device)
        mean = vae.encode(picture)[0]
        noise = torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32)).to(device)
        decoded = vae.decode(mean + POSTERIOR_STD * noise)
        error = F.l1_loss(decoded, picture)
        size = 0.5 * mean.square().sum() / count
        colour = F.avg_pool2d(decoded - picture, 8).abs().mean()
        loss = error + 0.5 * F.mse_loss(decoded, picture) + COLOUR_WEIGHT * colour + MEAN_WEIGHT * size
        return loss, {"l1": error.item(), "colour": colour.item(), "std": mean.std().item()}

    stage.run(plan, {"vae": vae}, step)


def load(path: Path, device: torch.device) -> Vae:
    """The trained VAE from its stage's state, in evaluation mode."""
    vae = Vae()
    vae.load_state_dict(stage.load_state(path)["modules"]["vae"])
    return vae.to(device).eval().requires_grad_(False)
