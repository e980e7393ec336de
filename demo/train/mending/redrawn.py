"""What a fine-tune draws wrong itself, beside the same picture with that put right.

The mistakes of `demo.train.latents.mistake` are drawings: whole things of another shape. Those that a fine-tune makes
are others: two things have grown together, a star has a cross's arms, a corner is missing. A network learns to mend
what it has met, so it has to meet its own ("DAgger": Ross, Gordon and Bagnell, arXiv 1011.0686). Scenes that it is
trained with are noised to where the places are still to be seen and the shapes hardly, and it draws them to the end
with their captions. A judge says which things came out wrong. There the drawing's latents take the place of its own;
everything else stays as the fine-tune drew it, or it would learn to mend what nobody can know.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from demo import classifier, parts
from demo.classifier import MAP, Verdict
from demo.nets import alphas_cumprod
from demo.sample import decode, denoise
from demo.train import stage, workers
from demo.train.bottom import above_only
from demo.train.top import frozen_unet
from demo.train.unet import Pool
from demo.world import Scene, caption, make_scene, masks

log = logging.getLogger(__name__)

NOISED = (560, 840)  # timesteps from which it draws
APART = 50  # timesteps between its steps
GUIDANCE = 4.0  # CFG scale
BATCH = 8
LEAST_OVERLAP = 0.25  # of a thing's area: below, what was drawn for it stands elsewhere
FARTHEST = 0.45  # of a thing's radius: as far as the middle of what was drawn wrong for it may be from its own
HARDLY = 0.05  # of a latent's cell: less of it does not count


def collect(
    plan: stage.Plan, fine_tune: Path, crowded: Pool, models: parts.Models, device: torch.device
) -> Pool | None:
    """What a fine-tune draws wrong of these scenes, until the plan's budget is spent; each worker draws its share.

    Kept in the plan's folder once drawn. The pool's `latents` are the mended ones, its `mistaken` those as drawn; None
    where nothing was drawn wrong.

    Raises:
        FileNotFoundError: the shipped judge is missing.
    """
    path = plan.folder / f"{plan.name}.{workers.rank()}.npz"
    if not path.exists():
        artist = replace(models, unet=above_only(frozen_unet(fine_tune).to(device)), text=models.text.to(device))
        rng = np.random.default_rng(workers.seeds(plan.seed, 0))
        drawn, mended, seeds = _draw(artist, crowded, plan.budget_seconds, rng, device)
        np.savez(path, drawn=drawn.numpy(), mended=mended.numpy(), seeds=seeds)
        log.info("%s: %d scenes drawn wrong", plan.name, len(seeds))
    workers.wait()
    files = [np.load(each) for each in sorted(plan.folder.glob(f"{plan.name}.*.npz"))]
    drawn, mended, seeds = (np.concatenate([file[name] for file in files]) for name in ("drawn", "mended", "seeds"))
    if not len(seeds):
        return None
    styles = np.zeros(len(seeds), np.int64)
    return Pool(torch.from_numpy(mended), crowded.styles, styles, seeds, mistaken=torch.from_numpy(drawn))


def _draw(
    artist: parts.Models, crowded: Pool, seconds: float, rng: np.random.Generator, device: torch.device
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Draw scenes until `seconds` are over, at least a batch: the latents (n, 4, h, w) of those that came out wrong as
    drawn and mended, and the scenes' seeds (n,)."""
    judge = classifier.load(parts.SHIPPED / "judge.safetensors")
    none = crowded.latents[:0]
    drawn, mended, seeds = [none], [none], []
    start = time.monotonic()
    while True:
        rows = rng.choice(len(crowded.latents), min(BATCH, len(crowded.latents)), replace=False)
        right = crowded.latents[rows]
        made = redraw(artist, right.to(device), crowded.seed_of[rows], rng).cpu()
        for row, verdict in enumerate(judge.judge(decode(artist, made))):
            seed = int(crowded.seed_of[rows[row]])
            better = mend(made[row], right[row], make_scene(seed), verdict)
            if better is not None:
                drawn.append(made[row][None])
                mended.append(better[None])
                seeds.append(seed)
        if time.monotonic() - start > seconds:
            break
    return torch.cat(drawn), torch.cat(mended), np.asarray(seeds, np.int64)


def redraw(artist: parts.Models, right: Tensor, seeds: np.ndarray, rng: np.random.Generator) -> Tensor:
    """What it makes of the noised latents (n, 4, h, w) of these scenes, told their captions."""
    first = int(rng.integers(*NOISED))
    alpha_bar = alphas_cumprod().to(right.device)[first]
    noise = torch.from_numpy(rng.standard_normal(tuple(right.shape), dtype=np.float32)).to(right.device)
    texts = [""] * len(right) + [caption(make_scene(int(seed))) for seed in seeds]
    both = artist.text(artist.vocabulary.batch(texts).to(right.device))
    noisy = alpha_bar.sqrt() * right + (1 - alpha_bar).sqrt() * noise
    return denoise(artist.unet, noisy, both, range(first, 0, -APART), GUIDANCE)


def mend(drawn: Tensor, right: Tensor, scene: Scene, verdict: Verdict) -> Tensor | None:
    """Latents (4, h, w) as drawn, but the right picture's where the judge finds a thing wrong, or one too many.

    None where nothing is wrong, and where a thing is missing or was drawn elsewhere: what is there says nothing of
    where it belongs.
    """
    wrong, kept = np.zeros((MAP, MAP), bool), np.zeros((MAP, MAP), bool)
    belongs = masks(scene, MAP)
    for thing, area in zip(scene.things, belongs, strict=True):
        seen, found = max(
            zip(verdict.things, verdict.areas, strict=True),
            key=lambda one: (one[1] & area).sum(),
            default=(None, area),
        )
        if seen is None or (found & area).sum() < LEAST_OVERLAP * area.sum():
            return None
        if (seen.shape, seen.colour) == (thing.shape, thing.colour):
            kept |= found | area
        elif _apart(found, area) > FARTHEST * thing.radius and not _grown_together(found, belongs):
            return None
        else:
            wrong |= found | area
    for found in verdict.areas:
        if not (found & belongs.any(0)).any():
            wrong |= found
    if not wrong.any():
        return None
    spoilt, fine = _cells(wrong, drawn.shape[-1]), _cells(kept, drawn.shape[-1])
    side = F.max_pool2d(spoilt[None].float(), 3, 1, 1)[0] > 0
    spared = F.max_pool2d(fine[None].float(), 3, 1, 1)[0] > 0
    return torch.where(side & ~(spared & ~spoilt), right, drawn)


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """How far two areas' middles are from each other, in units of the picture's side."""
    return float(np.linalg.norm(np.argwhere(one).mean(0) - np.argwhere(other).mean(0)) / len(one))


def _grown_together(found: np.ndarray, belongs: np.ndarray) -> bool:
    """Whether an area found covers some of two things or more."""
    return int((found & belongs).any((1, 2)).sum()) > 1


def _cells(area: np.ndarray, side: int) -> Tensor:
    """The latents that are in an area: (1, side, side) bool."""
    return F.adaptive_avg_pool2d(torch.from_numpy(area).float()[None], side) > HARDLY
