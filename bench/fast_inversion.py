"""The fast inversion rule against the authors' on held-out drawn scenes: structure and style, scene by scene.

    python -m bench.fast_inversion [--scenes 54] [--workers 1] [--report-only]

Each scene is drawn in one style and redrawn in another with the full layer profile, once by each rule, the pairs of
styles in turn. What is reported is the difference within a scene, with a bootstrap interval over scenes. It can be
stopped and run again; scores lie in ``out/fast-inversion.csv``, the table in ``bench/results/fast-inversion.csv``.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.quality.__main__ import append, done, units
from bench.quality.plan import DEFAULT, Method
from bench.quality.scores import Reference
from bench.quality.tables import MEASURES, Point, points
from bench.quality.work import Unit, Workshop
from demo import tokenizer
from demo.parts import SHIPPED
from demo.styles import CHECKPOINT_STYLES, draw
from demo.train.unet import SIDE
from demo.world import make_scene
from ditail_ext.core import InversionRule

ROOT = Path(__file__).parents[1]
SCORES, RESULTS = ROOT / "out" / "fast-inversion.csv", ROOT / "bench" / "results" / "fast-inversion.csv"
COMPARED = ("iou", "boundary_f1", "self_similarity", "style")
REFERENCES = 12
RESAMPLES = 2000


def methods() -> list[Method]:
    """The same picture by each rule."""
    full = replace(DEFAULT, knob="inversion rule, full", layer_profile="full")
    return [replace(full, value=rule.value, rule=rule) for rule in (InversionRule.AUTHORS, InversionRule.FAST)]


_workshop: list[Workshop] = []  # a worker process's own, made once: models cannot travel with every unit


def _start(words: Path) -> None:
    _workshop.append(Workshop(SHIPPED, words))


def _run(unit: Unit) -> list[dict[str, object]]:
    """A unit's scores; the styles' colours come from drawings, as the distance of colours is not compared here."""
    drawn = [make_scene(seed) for seed in range(50_000, 50_000 + REFERENCES)]
    own = np.stack([draw(scene, unit.target, SIDE) for scene in drawn])
    references = {style: Reference.of(own) for style in CHECKPOINT_STYLES}
    return _workshop[0].run(unit, methods(), references)


def differences(fast: Point, authors: Point) -> list[tuple[str, ...]]:
    """Of each measure: the mean by each rule, the difference within a scene with its interval, and lost scenes."""
    rng = np.random.default_rng(0)
    lines = []
    for measure in COMPARED:
        one, other = (point.scores[:, MEASURES.index(measure)] for point in (fast, authors))
        gain = one - other
        draws = gain[rng.integers(len(gain), size=(RESAMPLES, len(gain)))].mean(axis=1)
        low, high = np.percentile(draws, (2.5, 97.5))
        figures = other.mean(), one.mean(), gain.mean(), low, high, gain.min()
        worse = int((gain < -0.05).sum())
        lines.append((measure, str(len(gain)), *(f"{figure:.4f}" for figure in figures), str(worse)))
    return lines


def report() -> None:
    """Print and write the table of what has been measured."""
    with SCORES.open(newline="", encoding="utf-8") as file:
        by_rule = {point.value: point for point in points(csv.DictReader(file))}
    rows = differences(by_rule["fast"], by_rule["authors"])
    header = (
        "measure",
        "scenes",
        "authors",
        "fast",
        "difference",
        "low",
        "high",
        "worst scene",
        "scenes worse by 0.05",
    )
    for row in (header, *rows):
        print("|", " | ".join(row), "|")
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def main() -> None:
    """Measure what is missing, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", type=int, default=54)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--report-only", action="store_true")
    args = parser.parse_args()
    if not args.report_only:
        words = SCORES.parent / "tokenizer"
        words.mkdir(parents=True, exist_ok=True)
        tokenizer.write(words)
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        with ProcessPoolExecutor(args.workers, context, _start, (words,)) as pool:
            missing = [unit for unit in units(args.scenes, 1) if unit.name not in done(SCORES)]
            for job in as_completed([pool.submit(_run, unit) for unit in missing]):
                append(SCORES, job.result())
                print(f"{len(done(SCORES))} units", flush=True)
    report()


if __name__ == "__main__":
    main()
