"""The drawn world: what there is to see, what it is called, and where it stands.

A scene is one to three simple shapes on a plain background. This module knows the caption grammar and the
geometry; how a scene looks in a given style is `demo.styles`. Everything follows from a seed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.13, 0.12),
    "yellow": (0.96, 0.80, 0.08),
    "green": (0.12, 0.62, 0.22),
    "blue": (0.11, 0.32, 0.86),
    "purple": (0.58, 0.17, 0.72),
}
BACKGROUNDS: dict[str, tuple[float, float, float]] = {
    "grey": (0.66, 0.66, 0.67),
    "sand": (0.84, 0.72, 0.52),
    "mint": (0.58, 0.82, 0.70),
    "pink": (0.90, 0.68, 0.74),
}
SIZES: dict[str, tuple[float, float]] = {"small": (0.13, 0.16), "large": (0.20, 0.26)}
POSITIONS = ("on the left", "on the right", "at the top", "at the bottom", "in the centre")
MARGIN = 0.04


@dataclass(frozen=True)
class Thing:
    """One object: what it is, and where, in units of the picture's side (y points down)."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True)
class Scene:
    """One to three things on a background; `seed` drives textures such as grain."""

    things: tuple[Thing, ...]
    background: str
    seed: int


@dataclass(frozen=True)
class Wanted:
    """One object as a caption asks for it; None where the caption says nothing."""

    shape: str
    colour: str
    size: str | None = None
    position: str | None = None


@dataclass(frozen=True)
class Content:
    """What a caption asks for."""

    things: tuple[Wanted, ...]
    background: str | None = None
    relation: str | None = None
    style: str | None = None


def make_scene(seed: int, count: int | None = None) -> Scene:
    """Draw the lots for one scene: one, two or three things that do not overlap."""
    rng = np.random.default_rng(seed)
    number = count or int(rng.choice((1, 2, 3), p=(0.58, 0.35, 0.07)))
    things: list[Thing] = []
    while len(things) < number:
        thing = place(rng, things, number)
        if thing is None:
            things.clear()
        else:
            things.append(thing)
    return Scene(tuple(things), str(rng.choice(list(BACKGROUNDS))), seed)


def place(rng: np.random.Generator, others: list[Thing], number: int) -> Thing | None:
    """Find room for one more thing, or None after a few tries."""
    size = "small" if number == 3 and len(others) > 0 else str(rng.choice(list(SIZES)))
    used = {(other.shape, other.colour) for other in others}
    for _ in range(40):
        radius = float(rng.uniform(*SIZES[size]))
        low, high = radius + MARGIN, 1.0 - radius - MARGIN
        x, y = (float(v) for v in rng.uniform(low, high, 2))
        shape, colour = str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS)))
        if (shape, colour) in used:
            continue
        if all(math.hypot(x - o.x, y - o.y) > radius + o.radius + 0.02 for o in others):
            return Thing(shape, colour, size, x, y, radius, float(rng.uniform(-0.2, 0.2)))
    return None


def position_of(thing: Thing) -> str:
    """The caption's word for where a single thing stands."""
    dx, dy = thing.x - 0.5, thing.y - 0.5
    if max(abs(dx), abs(dy)) < 0.1:
        return "in the centre"
    if abs(dx) >= abs(dy):
        return "on the left" if dx < 0 else "on the right"
    return "at the top" if dy < 0 else "at the bottom"


def caption(scene: Scene, style: str | None = None, rng: np.random.Generator | None = None) -> str:
    """Say what is in the scene. With `rng`, optional words (size, position, background) come and go."""

    def say(chance: float) -> bool:
        return rng is None or rng.random() < chance

    sizes = say(0.85)
    names = [f"a {t.size + ' ' if sizes else ''}{t.colour} {t.shape}" for t in scene.things]
    if len(names) == 1:
        text = names[0] + (f" {position_of(scene.things[0])}" if say(0.6) else "")
    elif len(names) == 2:
        text = _pair(scene.things, names, related=say(0.5))
    else:
        text = f"{names[0]}, {names[1]} and {names[2]}"
    if say(0.9):
        text += f" on {scene.background}"
    return text + (f", {style} style" if style else "")


def _pair(things: tuple[Thing, ...], names: list[str], related: bool) -> str:
    """Two things, joined by where they stand to each other or just by 'and'."""
    if not related:
        return f"{names[0]} and {names[1]}"
    axis = 0 if abs(things[0].x - things[1].x) >= abs(things[0].y - things[1].y) else 1
    word = ("left of", "above")[axis]
    first_is_first = (things[0].x, things[0].y)[axis] <= (things[1].x, things[1].y)[axis]
    first, second = (names[0], names[1]) if first_is_first else (names[1], names[0])
    return f"{first} {word} {second}"


_THING = re.compile(
    rf"\ba (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?: ({'|'.join(POSITIONS)}))?"
)


def parse_caption(text: str) -> Content:
    """Read a caption back. A text without any object of this world is an error."""
    found = [Wanted(m[3], m[2], m[1], m[4]) for m in _THING.finditer(text)]
    if not found:
        raise ValueError(f"no object of the drawn world in the caption: {text!r}")
    relation = re.search(r"left of|above", text)
    background = re.search(rf" on ({'|'.join(BACKGROUNDS)})\b", text)
    style = re.search(r", (\w+) style$", text)
    return Content(
        tuple(found),
        background[1] if background else None,
        relation[0] if relation else None,
        style[1] if style else None,
    )


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres in units of the picture's side: x and y, each (size, size) float32."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(axis, axis)
    return x, y


def local_frame(thing: Thing, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in the thing's own frame, unit = its radius: two (size, size) arrays."""
    x, y = grid(size)
    c, s = math.cos(thing.angle), math.sin(thing.angle)
    dx, dy = (x - thing.x) / thing.radius, (y - thing.y) / thing.radius
    return c * dx + s * dy, -s * dx + c * dy


def distance(thing: Thing, size: int) -> np.ndarray:
    """Signed distance to the outline in pixels, negative inside: (size, size) float32."""
    u, v = local_frame(thing, size)
    field = {
        "circle": _circle,
        "square": _square,
        "triangle": _triangle,
        "star": _star,
        "cross": _cross,
    }[thing.shape](u, v)
    return (field * thing.radius * size).astype(np.float32)


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) - 0.95


def _box(u: np.ndarray, v: np.ndarray, half_u: float, half_v: float) -> np.ndarray:
    du, dv = np.abs(u) - half_u, np.abs(v) - half_v
    return np.hypot(np.maximum(du, 0), np.maximum(dv, 0)) + np.minimum(np.maximum(du, dv), 0)


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _box(u, v, 0.78, 0.78)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(_box(u, v, 0.98, 0.32), _box(u, v, 0.32, 0.98))


def _polygon(u: np.ndarray, v: np.ndarray, corners: list[tuple[float, float]]) -> np.ndarray:
    """Exact signed distance to a closed polygon (even-odd inside)."""
    best = np.full(u.shape, np.inf, dtype=np.float32)
    inside = np.zeros(u.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ex, ey = bx - ax, by - ay
        t = np.clip(((u - ax) * ex + (v - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        best = np.minimum(best, np.hypot(u - ax - t * ex, v - ay - t * ey))
        if ay != by:
            inside ^= ((ay > v) != (by > v)) & (u < ex * (v - ay) / ey + ax)
    return np.where(inside, -best, best)


def _ray(angle: float, length: float, drop: float = 0.0) -> tuple[float, float]:
    return length * math.sin(angle), drop - length * math.cos(angle)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _polygon(u, v, [_ray(2 * math.pi * k / 3, 1.15, 0.22) for k in range(3)])


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _polygon(u, v, [_ray(math.pi * k / 5, 1.1 if k % 2 == 0 else 0.48, 0.04) for k in range(10)])


def masks(scene: Scene, size: int = 256) -> np.ndarray:
    """The exact area of every thing: (things, size, size) bool."""
    return np.stack([distance(thing, size) < 0 for thing in scene.things])
