"""What a worker process of the bench does: a batch of scenes by every method.

In a module of its own: a spawned process does not import a package's ``__main__``, and would not find it there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from bench.quality.methods import Task, content, redraw
from bench.quality.plan import Method
from bench.quality.scores import Reference, Score, score, true_areas
from demo import classifier
from demo.parts import Models, load
from demo.sample import held_out_prompts, sample_many
from demo.styles import CHECKPOINT_STYLES, draw
from demo.train.unet import SIDE
from demo.world import caption, make_scene

FIRST_SCENE = 20_000  # held out: trainings draw from a million on, demo.measure from ten thousand on
BATCH = 3
REFERENCES = 36  # pictures of each target model for its colour and texture


@dataclass(frozen=True)
class Unit:
    """Work done and written as one: a batch of scenes from one style to another, by every method."""

    batch: int
    source: str
    target: str

    @property
    def name(self) -> str:
        """How it is marked as done."""
        return f"{self.batch}-{self.source}-{self.target}"

    @property
    def seeds(self) -> range:
        """Its scenes."""
        return range(FIRST_SCENE + self.batch * BATCH, FIRST_SCENE + (self.batch + 1) * BATCH)


class Workshop:
    """One worker's models and judge, and the target models' own pictures."""

    def __init__(self, parts: Path, words: Path) -> None:
        torch.set_num_threads(1)
        self.models: dict[str, Models] = {style: load(parts, style, words) for style in CHECKPOINT_STYLES}
        self.judge = classifier.load(parts / "judge.safetensors")

    def own_pictures(self, style: str) -> np.ndarray:
        """Text-to-image of held-out captions."""
        prompts = held_out_prompts(2 * REFERENCES)[REFERENCES:]
        return sample_many(self.models[style], prompts, seed=70_000)

    def run(
        self,
        unit: Unit,
        methods: Sequence[Method],
        references: dict[str, Reference],
        seen: Callable[[np.ndarray], None] = lambda made: None,
    ) -> list[dict[str, object]]:
        """All scores of a unit; each method's pictures (n, h, w, 3) are shown to `seen`."""
        scenes = [make_scene(seed) for seed in unit.seeds]
        noise = [torch.randn(4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(s)) for s in unit.seeds]
        drawn = np.stack([draw(scene, unit.source, SIDE) for scene in scenes])
        task = Task(drawn, [caption(scene) for scene in scenes], torch.stack(noise), self.models[unit.source])
        rows: list[dict[str, object]] = []
        for method in methods:
            target = self.models[unit.target]
            made, own = redraw(method, task, target), content(method, task, target)
            seen(made)
            areas = true_areas(scenes) if own is None else np.stack([v.mask for v in self.judge.judge(own)])
            original = drawn if own is None else own
            scores = score(self.judge, made, original, areas, scenes, unit.target, references[unit.target])
            rows += [_row(unit, seed, method, s) for seed, s in zip(unit.seeds, scores, strict=True)]
        return rows


def _row(unit: Unit, seed: int, method: Method, result: Score) -> dict[str, object]:
    numbers = {name: f"{value:.4f}" for name, value in asdict(result).items()}
    place = {"unit": unit.name, "scene": seed, "source": unit.source, "target": unit.target}
    return {**place, "method": method.kind.value, "knob": method.knob, "value": method.value, **numbers}


_workshop: list[Workshop] = []  # a worker process's own, made once: models cannot travel with every unit


def start(parts: Path, words: Path) -> None:
    """A worker's first act."""
    _workshop.append(Workshop(parts, words))


def own_pictures(style: str) -> np.ndarray:
    """Text-to-image of held-out captions by this worker's model of a style."""
    return _workshop[0].own_pictures(style)


def run(unit: Unit, methods: Sequence[Method], references: dict[str, Reference]) -> list[dict[str, object]]:
    """All scores of a unit, by this worker's models."""
    return _workshop[0].run(unit, methods, references)
