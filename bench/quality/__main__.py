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
from pathlib import Path

from tqdm import tqdm

from bench.quality import tables as quality_tables
from bench.quality import work
from bench.quality.plan import Method, comparison, full, generated, generated_full, knobs, windows
from bench.quality.scores import Reference
from bench.quality.work import BATCH, Unit
from demo import tokenizer
from demo.parts import SHIPPED
from demo.styles import CHECKPOINT_STYLES

log = logging.getLogger(__name__)

SETS = {
    "comparison": comparison,
    "knobs": knobs,
    "windows": windows,
    "generated": generated,
    "full": full,
    "generated-full": generated_full,
}
OUT = Path(__file__).parents[2] / "out" / "quality"


PAIRS = list(itertools.permutations(CHECKPOINT_STYLES, 2))


def scene_count(text: str) -> int:
    """A number of scenes that all pairs of styles can share.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or not int(text) or int(text) % (BATCH * len(PAIRS)):
        raise argparse.ArgumentTypeError(f"the number of scenes must be a multiple of {BATCH * len(PAIRS)}")
    return int(text)


def units(scenes: int, rounds: int) -> list[Unit]:
    """Every batch with one pair of styles a round; after six rounds every scene has been through every pair."""
    batches = range(scenes // BATCH)
    return [Unit(b, *PAIRS[(b + r) % len(PAIRS)]) for r in range(rounds) for b in batches]


def methods_of(names: Sequence[str]) -> dict[str, list[Method]]:
    """The sets of methods by name."""
    return {name: SETS[name]() for name in names}


def measure(options: argparse.Namespace) -> None:
    """Do the units that are not in the scores file yet."""
    options.out.mkdir(parents=True, exist_ok=True)
    words = options.out / "tokenizer"
    tokenizer.write(words)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(options.workers, context, work.start, (options.parts, words)) as pool:
        own = pool.map(work.own_pictures, CHECKPOINT_STYLES)
        references = {s: Reference.of(pictures) for s, pictures in zip(CHECKPOINT_STYLES, own, strict=True)}
        for name, methods in methods_of(options.sets).items():
            path = options.out / f"{name}.csv"
            missing = [u for u in units(options.scenes, options.rounds) if u.name not in done(path)]
            jobs = [pool.submit(work.run, unit, methods, references) for unit in missing]
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
    parser.add_argument("--scenes", type=scene_count, default=54)
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
