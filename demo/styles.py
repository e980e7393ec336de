"""How a scene looks: one drawing function per style.

Every style draws the same geometry. Widths and textures are in pixels, whatever the size of the picture, so
that a texture is the same thing to the VAE and the UNet at 128 and at 256 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from demo.world import BACKGROUNDS, COLOURS, Scene, distance, grid, local_frame

TILE = 8  # mosaic tile in pixels: one latent cell
GRAIN = 0.022  # of paper and of what is shaded: half the range of grey values


def draw(scene: Scene, style: str, size: int = 256) -> np.ndarray:
    """Draw the scene: (size, size, 3) uint8."""
    rng = np.random.default_rng((scene.seed, 7))
    picture = STYLES[style](scene, size, rng)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _flat(rgb: tuple[float, float, float], size: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(rgb, np.float32), (size, size, 3)).copy()


def _over(picture: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay `colour` over `picture` with coverage alpha (size, size)."""
    return picture + (colour - picture) * alpha[..., None]


def _cover(field: np.ndarray, softness: float = 1.0) -> np.ndarray:
    """Coverage of the inside of a signed distance in pixels, anti-aliased over `softness` pixels."""
    return np.clip(0.5 - field / softness, 0, 1).astype(np.float32)


def _smooth_noise(rng: np.random.Generator, size: int, cell: int) -> np.ndarray:
    """Bilinear value noise in -1..1 with cells of `cell` pixels: (size, size)."""
    knots = rng.uniform(-1, 1, (size // cell + 2, size // cell + 2)).astype(np.float32)
    at = np.arange(size) / cell
    low, part = at.astype(int), (at % 1).astype(np.float32)
    rows = knots[low] * (1 - part)[:, None] + knots[low + 1] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part


def _shaded(scene: Scene, size: int, rng: np.random.Generator) -> np.ndarray:
    """Soft light from the upper left, drop shadows, a graded background and grain."""
    x, y = grid(size)
    picture = _flat(BACKGROUNDS[scene.background], size) * (1.06 - 0.42 * y - 0.10 * x)[..., None]
    for thing in scene.things:
        shadow = distance(replace(thing, x=thing.x + 0.028, y=thing.y + 0.037), size)
        picture *= 1 - 0.55 / (1 + np.exp(np.clip(shadow / (0.018 * size), -30, 30)))[..., None]
    for thing in scene.things:
        u, v = local_frame(thing, size)
        light = np.clip(0.78 - 0.30 * (u + v), 0.28, 1.15)
        body = np.asarray(COLOURS[thing.colour], np.float32) * light[..., None]
        gleam = 0.55 * np.exp(-((u + 0.32) ** 2 + (v + 0.32) ** 2) / 0.06)
        body = body + (1 - body) * gleam[..., None]
        picture = _over(picture, body, _cover(distance(thing, size), 2.0))
    return picture + GRAIN * _smooth_noise(rng, size, 4)[..., None]


def _ink(scene: Scene, size: int, rng: np.random.Generator) -> np.ndarray:
    """Flat fills and thick black outlines on pale paper, with a grain like the shaded style's.

    The grain is hardly seen, but inversion needs it: to what does not vary in a style's pictures no noise belongs, so
    wholly flat areas come back from inversion as flat "noise", in which no other checkpoint draws its texture.
    """
    paper = 0.35 * np.asarray(BACKGROUNDS[scene.background], np.float32) + 0.65
    picture = np.broadcast_to(paper, (size, size, 3)).astype(np.float32)
    for thing in scene.things:
        field = distance(thing, size)
        picture = _over(picture, np.float32(0.03), _cover(field - 3.5))
        fill = np.asarray(COLOURS[thing.colour], np.float32)
        picture = _over(picture, fill * 0.9 + 0.1, _cover(field + 3.5))
    return picture + GRAIN * _smooth_noise(rng, size, 4)[..., None]


def _mosaic(scene: Scene, size: int, rng: np.random.Generator) -> np.ndarray:
    """Square tiles of uneven brightness between pale joints, on a deep background."""
    picture = _flat(BACKGROUNDS[scene.background], size) ** 2.2 * 0.75
    for thing in scene.things:
        picture = _over(picture, np.asarray(COLOURS[thing.colour], np.float32), _cover(distance(thing, size)))
    tiles = size // TILE
    mean = picture.reshape(tiles, TILE, tiles, TILE, 3).mean(axis=(1, 3))
    mean *= rng.uniform(0.86, 1.12, (tiles, tiles, 1)).astype(np.float32)
    picture = mean.repeat(TILE, 0).repeat(TILE, 1)
    edge = np.arange(size) % TILE == TILE - 1
    joint = np.maximum(edge[:, None], edge[None, :]).astype(np.float32)
    return _over(picture, np.asarray((0.93, 0.91, 0.86), np.float32), 0.8 * joint)


def _neon(scene: Scene, size: int, rng: np.random.Generator) -> np.ndarray:
    """Glowing tubes along the outlines in the dark."""
    del rng
    tint = np.asarray(BACKGROUNDS[scene.background], np.float32)
    picture = np.broadcast_to((tint**3) * 0.16, (size, size, 3)).astype(np.float32)
    for thing in scene.things:
        field = distance(thing, size)
        colour = np.asarray(COLOURS[thing.colour], np.float32) * 0.9 + 0.1
        glow = np.exp(-np.abs(field) / 9.0) * 0.75 + 0.16 * _cover(field)
        picture = picture + colour * glow[..., None]
        core = _cover(np.abs(field) - 2.2, 2.0)
        picture = _over(picture, 0.45 * colour + 0.55, core)
    return picture


STYLES: dict[str, Callable[[Scene, int, np.random.Generator], np.ndarray]] = {
    "shaded": _shaded,
    "ink": _ink,
    "mosaic": _mosaic,
    "neon": _neon,
}
CHECKPOINT_STYLES = ("shaded", "ink", "mosaic")
LORA_STYLE = "neon"
