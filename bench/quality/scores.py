"""What the quality bench measures of a redrawn picture: structure, style, faithfulness to the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from demo.classifier import MAP, Judge, Verdict
from demo.world import Scene, Wanted, masks

CELL = 16  # pixels of a side of a gradient histogram's cell
ORIENTATIONS = 8


@dataclass(frozen=True)
class Score:
    """One redrawn picture's measures.

    Attributes:
        iou: of the things' area, against the scene's exact masks (or the content picture's, where the source drew it).
        boundary_f1: of the area's outline, within one cell of a 64 x 64 map.
        self_similarity: 1 - mean difference of two pictures' similarity matrices of local gradients; 1 is equal.
        style: the judge's probability of the target's style.
        style_distance: to the target model's own pictures, in standard deviations of colour and texture statistics.
        faithful: share of the prompt's things that are there with their shape and colour.
    """

    iou: float
    boundary_f1: float
    self_similarity: float
    style: float
    style_distance: float
    faithful: float


@dataclass(frozen=True)
class Reference:
    """Mean and standard deviation of the statistics of a target model's own pictures, each (k,)."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, pictures: np.ndarray) -> Reference:
        """From pictures (n, h, w, 3) uint8."""
        rows = statistics(pictures)
        return cls(rows.mean(0), rows.std(0) + 1e-6)

    def distance(self, pictures: np.ndarray) -> np.ndarray:
        """Root mean square of the standardised differences: (n,). Pictures of the model itself score about 1."""
        return np.sqrt((((statistics(pictures) - self.mean) / self.std) ** 2).mean(1))


def true_areas(scenes: Sequence[Scene]) -> np.ndarray:
    """Where there is a thing: (n, 64, 64) bool."""
    return np.stack([masks(scene, MAP).any(0) for scene in scenes])


def score(
    judge: Judge,
    pictures: np.ndarray,
    originals: np.ndarray,
    areas: np.ndarray,
    scenes: Sequence[Scene],
    style: str,
    reference: Reference,
) -> list[Score]:
    """Score pictures (n, h, w, 3) uint8 against the originals they should keep the structure of."""
    verdicts = judge.judge(pictures)
    distances = reference.distance(pictures)
    similar = self_similarity(pictures, originals)
    return [
        Score(
            iou(verdict.mask, area),
            boundary_f1(verdict.mask, area),
            float(similar[row]),
            verdict.style_probability[style],
            float(distances[row]),
            faithfulness(verdict, scenes[row]),
        )
        for row, (verdict, area) in enumerate(zip(verdicts, areas, strict=True))
    ]


def faithfulness(verdict: Verdict, scene: Scene) -> float:
    """Share of the scene's things that the judge finds with shape and colour."""
    wanted = tuple(Wanted(thing.shape, thing.colour) for thing in scene.things)
    return verdict.count_right(wanted) / len(wanted)


def iou(found: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of two areas (h, w) bool; 1 where both are empty."""
    union = (found | true).sum()
    return float((found & true).sum() / union) if union else 1.0


def boundary_f1(found: np.ndarray, true: np.ndarray) -> float:
    """F1 of two areas' outlines, a cell counting as met within one cell; 0 where one has none."""
    ours, theirs = outline(found), outline(true)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    precision = (ours & _widened(theirs)).sum() / ours.sum()
    recall = (theirs & _widened(ours)).sum() / theirs.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def outline(area: np.ndarray) -> np.ndarray:
    """The cells of an area with a neighbour outside (four neighbours; beyond the picture is inside)."""
    padded = np.pad(area, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return area & ~inner


def _widened(cells: np.ndarray) -> np.ndarray:
    padded = np.pad(cells, 1)
    h, w = cells.shape
    return np.any([padded[y : y + h, x : x + w] for y in range(3) for x in range(3)], axis=0)


def _grey(pictures: np.ndarray) -> Tensor:
    """(n, 1, h, w) in 0..1."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
    return (tensor * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def self_similarity(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How alike two pictures' inner likenesses are, (n,): 1 is equal.

    Each cell is described by its histogram of gradient orientations (HOG); the cosines between all pairs of one
    picture's cells say which places look alike. That survives a change of style, which the histograms do not.
    """
    a, b = (_likeness(gradient_histograms(p)) for p in (pictures, others))
    return (1 - (a - b).abs().mean((1, 2))).numpy()


def _likeness(cells: Tensor) -> Tensor:
    cells = F.normalize(cells + 1e-3, dim=-1)
    return cells @ cells.transpose(1, 2)


def gradient_histograms(pictures: np.ndarray) -> Tensor:
    """Histograms of unsigned gradient orientation, weighted by magnitude: (n, cells, ORIENTATIONS + 1).

    The last entry is a small constant, so that flat cells are like each other and unlike textured ones.
    """
    grey = F.avg_pool2d(_grey(pictures), 3, 1, 1, count_include_pad=False)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    dx = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    dy = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    angle = torch.atan2(dy, dx) % torch.pi * (ORIENTATIONS / torch.pi)
    bins = F.one_hot(angle.long().clamp(max=ORIENTATIONS - 1)[:, 0], ORIENTATIONS).permute(0, 3, 1, 2)
    cells = F.avg_pool2d(bins * (dx**2 + dy**2).sqrt(), CELL)
    return F.pad(cells.flatten(2).transpose(1, 2), (0, 1), value=0.02)


def statistics(pictures: np.ndarray) -> np.ndarray:
    """Colour and texture of pictures (n, h, w, 3): (n, 14).

    Mean and standard deviation of each colour channel, of the saturation, and the standard deviation of the grey
    picture's details at five scales (1, 2, 4 ... pixels), with the share of strong edges.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
    saturation = tensor.amax(1) - tensor.amin(1)
    parts = [
        tensor.mean((2, 3)),
        tensor.std((2, 3)),
        saturation.mean((1, 2))[:, None],
        saturation.std((1, 2))[:, None],
    ]
    level = _grey(pictures)
    for _ in range(5):
        coarse = F.avg_pool2d(level, 2)
        detail = level - F.interpolate(coarse, size=level.shape[-2:])
        parts.append(detail.std((2, 3)).log1p())
        level = coarse
    edges = gradient_histograms(pictures)[:, :, :-1].sum(2)
    parts.append((edges > 0.1).float().mean(1, keepdim=True))
    return torch.cat(parts, 1).numpy().astype(np.float64)
