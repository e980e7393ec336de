"""Does structure stay while style changes? Ditail against its alternatives, on held-out drawn scenes.

Every scene is drawn in one style and redrawn in another; all ordered pairs of styles come in equal numbers.
`python -m bench.quality` measures what is missing in out/quality/scores.csv and then writes
bench/results/quality*.csv and the charts in docs/ (these need matplotlib). It can be stopped and run again.

    python -m bench.quality [--scenes 54] [--rounds 1] [--workers 3] [--report-only]
"""

from __future__ import annotations

import argparse
import csv
import itertools
import logging
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from bench.quality import tables as quality_tables
from bench.quality.methods import Task, content, redraw
from bench.quality.plan import Method, comparison, full, generated, generated_full, knobs, windows
from bench.quality.scores import Reference, Score, score, true_areas
from demo import classifier, tokenizer
from demo.parts import SHIPPED, Models, load
from demo.sample import held_out_prompts, sample_many
from demo.styles import CHECKPOINT_STYLES, draw
from demo.train.unet import SIDE
from demo.world import caption, make_scene

log = logging.getLogger(__name__)

FIRST_SCENE = 20_000  # held out: trainings draw from a million on, demo.measure from ten thousand on
BATCH = 3
REFERENCES = 36  # pictures of each target model for its colour and texture
SETS = {
    "comparison": comparison,
    "knobs": knobs,
    "windows": windows,
    "generated": generated,
    "full": full,
    "generated-full": generated_full,
}
OUT = Path(__file__).parents[2] / "out" / "quality"


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

    def run(self, unit: Unit, methods: Sequence[Method], references: dict[str, Reference]) -> list[dict[str, object]]:
        """All scores of a unit."""
        scenes = [make_scene(seed) for seed in unit.seeds]
        noise = [torch.randn(4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(s)) for s in unit.seeds]
        drawn = np.stack([draw(scene, unit.source, SIDE) for scene in scenes])
        task = Task(drawn, [caption(scene) for scene in scenes], torch.stack(noise), self.models[unit.source])
        rows: list[dict[str, object]] = []
        for method in methods:
            target = self.models[unit.target]
            made, own = redraw(method, task, target), content(method, task, target)
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


def _start(parts: Path, words: Path) -> None:
    _workshop.append(Workshop(parts, words))


def _own_pictures(style: str) -> np.ndarray:
    return _workshop[0].own_pictures(style)


def _run(unit: Unit, methods: Sequence[Method], references: dict[str, Reference]) -> list[dict[str, object]]:
    return _workshop[0].run(unit, methods, references)


def units(scenes: int, rounds: int) -> list[Unit]:
    """Every batch with one pair of styles a round; after six rounds every scene has been through every pair."""
    pairs = list(itertools.permutations(CHECKPOINT_STYLES, 2))
    if scenes % (BATCH * len(pairs)):
        raise ValueError(f"the number of scenes must be a multiple of {BATCH * len(pairs)}")
    batches = range(scenes // BATCH)
    return [Unit(b, *pairs[(b + r) % len(pairs)]) for r in range(rounds) for b in batches]


def methods_of(names: Sequence[str]) -> dict[str, list[Method]]:
    """The sets of methods by name."""
    return {name: SETS[name]() for name in names}


def measure(options: argparse.Namespace) -> None:
    """Do the units that are not in the scores file yet."""
    options.out.mkdir(parents=True, exist_ok=True)
    words = options.out / "tokenizer"
    tokenizer.write(words)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(options.workers, context, _start, (options.parts, words)) as pool:
        own = pool.map(_own_pictures, CHECKPOINT_STYLES)
        references = {s: Reference.of(pictures) for s, pictures in zip(CHECKPOINT_STYLES, own, strict=True)}
        for name, methods in methods_of(options.sets).items():
            path = options.out / f"{name}.csv"
            missing = [u for u in units(options.scenes, options.rounds) if u.name not in done(path)]
            jobs = [pool.submit(_run, unit, methods, references) for unit in missing]
            for job in tqdm(as_completed(jobs), total=len(jobs), desc=name, unit="unit"):
                append(path, job.result())


def done(path: Path) -> set[str]:
    """The units in a scores file."""
    if not path.exists():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        return {row["unit"] for row in csv.DictReader(file)}


def append(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Add a unit's rows to a scores file."""
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, default=SHIPPED)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--scenes", type=int, default=54)
    parser.add_argument("--rounds", type=int, default=1, help="6: every scene through every pair of styles")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not options.report_only:
        measure(options)
    quality_tables.write(options.out)
    from bench.quality import charts as quality_charts

    quality_charts.write(options.out)


if __name__ == "__main__":
    main()
