"""Cheaper ways to a first picture against the whole one, on held-out drawn scenes: structure and style by scene.

    python -m bench.cheaper [--scenes 54] [--workers 1] [--report-only]

The fast inversion rule asks the source's UNet at every third step, *record every* has the target's record the source
at some steps only. Each scene is drawn in one style and redrawn in another with the default settings, in every way,
the pairs of styles in turn. What is reported is the difference to the whole way within a scene, with a bootstrap
interval over scenes, and by how much the pictures differ. It can be stopped and run again; scores lie in
``out/cheaper.csv``, the table in ``bench/results/cheaper.csv``.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.quality.__main__ import append, done, scene_count, units
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
SCORES, RESULTS = ROOT / "out" / "cheaper.csv", ROOT / "bench" / "results" / "cheaper.csv"
COMPARED = ("iou", "boundary_f1", "self_similarity", "style")
WHOLE = "whole"
REFERENCES = 12
RESAMPLES = 2000
WORSE = 0.05


def methods() -> list[Method]:
    """The same picture in every way; the whole one first."""
    whole = replace(DEFAULT, knob="way", value=WHOLE)
    fast = replace(whole, rule=InversionRule.FAST)
    return [
        whole,
        replace(fast, value="fast inversion"),
        replace(whole, value="record every 2", record_every=2),
        replace(whole, value="record every 3", record_every=3),
        replace(fast, value="fast inversion, record every 2", record_every=2),
    ]


_workshop: list[Workshop] = []  # a worker process's own, made once: models cannot travel with every unit


def _start(words: Path) -> None:
    _workshop.append(Workshop(SHIPPED, words))


def _run(unit: Unit) -> list[dict[str, object]]:
    """A unit's scores; the styles' colours come from drawings, as the distance of colours is not compared here."""
    drawn = [make_scene(seed) for seed in range(50_000, 50_000 + REFERENCES)]
    own = np.stack([draw(scene, unit.target, SIDE) for scene in drawn])
    made: list[np.ndarray] = []
    rows = _workshop[0].run(unit, methods(), {style: Reference.of(own) for style in CHECKPOINT_STYLES}, made.append)
    apart = [np.abs(pictures.astype(float) - made[0]).mean((1, 2, 3)) for pictures in made]
    return [{**row, "apart": f"{number:.4f}"} for row, number in zip(rows, np.concatenate(apart), strict=True)]


def differences(way: Point, whole: Point) -> list[tuple[str, ...]]:
    """Of each measure: the mean in either way, the difference within a scene with its interval, and lost scenes."""
    rng = np.random.default_rng(0)
    lines = []
    for measure in COMPARED:
        one, other = (point.scores[:, MEASURES.index(measure)] for point in (way, whole))
        gain = one - other
        draws = gain[rng.integers(len(gain), size=(RESAMPLES, len(gain)))].mean(axis=1)
        low, high = np.percentile(draws, (2.5, 97.5))
        figures = other.mean(), one.mean(), gain.mean(), low, high, gain.min()
        worse = int((gain < -WORSE).sum())
        lines.append((way.value, measure, str(len(gain)), *(f"{figure:.4f}" for figure in figures), str(worse)))
    return lines


def report() -> None:
    """Print and write the table of what has been measured."""
    with SCORES.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    whole, *ways = points(rows)
    apart = {way.value: np.mean([float(row["apart"]) for row in rows if row["value"] == way.value]) for way in ways}
    scored = [line for way in ways for line in differences(way, whole)]
    lines = [(*line, f"{apart[line[0]]:.2f}") for line in scored]
    header = ("way", "measure", "scenes", WHOLE, "so", "difference", "low", "high", "worst scene")
    header += (f"scenes worse by {WORSE}", "pictures apart of 255")
    for row in (header, *lines):
        print("|", " | ".join(row), "|")
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *lines])


def measure(scenes: int, workers: int) -> None:
    """Do the units that are not in the scores yet."""
    words = SCORES.parent / "tokenizer"
    words.mkdir(parents=True, exist_ok=True)
    tokenizer.write(words)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(workers, context, _start, (words,)) as pool:
        missing: Sequence[Unit] = [unit for unit in units(scenes, 1) if unit.name not in done(SCORES)]
        for job in as_completed([pool.submit(_run, unit) for unit in missing]):
            append(SCORES, job.result())
            print(f"{len(done(SCORES))} units", flush=True)


def main() -> None:
    """Measure what is missing, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", type=scene_count, default=54)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--report-only", action="store_true")
    args = parser.parse_args()
    if not args.report_only:
        measure(args.scenes, args.workers)
    report()


if __name__ == "__main__":
    main()
