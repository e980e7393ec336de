"""The aggregation bench's work, done by processes of its own.

Apart from ``__main__``, because a spawned process cannot import what a package's ``__main__`` defines.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from bench.aggregation.methods import LEVELS, STEPS, results
from bench.aggregation.plan import RUNS, Start
from bench.quality.__main__ import append, done, units
from bench.quality.methods import Task
from bench.quality.methods import trajectory as content_trajectory
from bench.quality.plan import Kind
from bench.quality.plan import Method as Content
from bench.quality.scores import Reference, score, true_areas
from bench.quality.work import Unit, Workshop
from demo import tokenizer
from demo.sample import decode, held_out_prompts, sample_many
from demo.styles import CHECKPOINT_STYLES, draw
from demo.train.unet import SIDE
from demo.world import caption, make_scene

OWN = 8  # pictures of each target model for its colour and texture
CONTENT = {Start.NOISE: Content(Kind.GENERATED, steps=STEPS), Start.INVERTED: Content(Kind.DITAIL, steps=STEPS)}


class Bench(Workshop):
    """One worker's models and judge."""

    def own_pictures(self, style: str) -> np.ndarray:
        """Text-to-image of held-out captions; fewer than the quality bench's, for a column that nobody ranks by."""
        return sample_many(self.models[style], held_out_prompts(OWN), seed=70_000)

    def run_set(self, unit: Unit, name: str, references: dict[str, Reference]) -> list[dict[str, object]]:
        """All scores of a unit by one set of runs."""
        start, runs = RUNS[name]
        scenes = [make_scene(seed) for seed in unit.seeds]
        noise = [torch.randn(4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(s)) for s in unit.seeds]
        drawn = np.stack([draw(scene, unit.source, SIDE) for scene in scenes])
        source, target = self.models[unit.source], self.models[unit.target]
        task = Task(drawn, [caption(scene) for scene in scenes], torch.stack(noise), source)
        trajectory = content_trajectory(CONTENT[start], task, target, LEVELS)
        own, areas = drawn, true_areas(scenes)
        if start is Start.NOISE:
            own = decode(source, trajectory.clean)
            areas = np.stack([verdict.mask for verdict in self.judge.judge(own)])
        rows: list[dict[str, object]] = []
        for run in runs:
            for window, latents in results(run, task.captions, trajectory, source, target):
                made = decode(target, latents)
                scores = score(self.judge, made, own, areas, scenes, unit.target, references[unit.target])
                place = {"unit": unit.name, "source": unit.source, "target": unit.target, "start": start.value}
                for seed, result in zip(unit.seeds, scores, strict=True):
                    numbers = {name: f"{value:.4f}" for name, value in asdict(result).items()}
                    rows.append({**place, "scene": seed, "method": run.kind, "value": run.value(window), **numbers})
        return rows


_bench: list[Bench] = []  # a worker process's own, made once: models cannot travel with every unit


def _start(parts: Path, words: Path) -> None:
    _bench.append(Bench(parts, words))


def _own_pictures(style: str) -> np.ndarray:
    return _bench[0].own_pictures(style)


def _run(unit: Unit, name: str, references: dict[str, Reference]) -> list[dict[str, object]]:
    return _bench[0].run_set(unit, name, references)


def measure(parts: Path, out: Path, scenes: int, workers: int) -> None:
    """Do the units that are not in the scores files yet, a file a set."""
    out.mkdir(parents=True, exist_ok=True)
    words = out / "tokenizer"
    tokenizer.write(words)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(workers, context, _start, (parts, words)) as pool:
        own = pool.map(_own_pictures, CHECKPOINT_STYLES)
        references = {s: Reference.of(pictures) for s, pictures in zip(CHECKPOINT_STYLES, own, strict=True)}
        for name in RUNS:
            path = out / f"{name}.csv"
            missing = [unit for unit in units(scenes, 1) if unit.name not in done(path)]
            jobs = [pool.submit(_run, unit, name, references) for unit in missing]
            for job in tqdm(as_completed(jobs), total=len(jobs), desc=name, unit="unit"):
                append(path, job.result())
