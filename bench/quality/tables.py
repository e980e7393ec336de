"""Tables of the quality bench: means with confidence intervals, and the distance between curves."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.quality.plan import Kind

log = logging.getLogger(__name__)

MEASURES = ("iou", "boundary_f1", "self_similarity", "style", "style_distance", "faithful")
STRUCTURE = ("iou", "boundary_f1", "self_similarity")
RESAMPLES = 2000
RESULTS = Path(__file__).parents[1] / "results"
Row = dict[str, str]


@dataclass(frozen=True)
class Point:
    """A method's scores by scene: measures (scenes, 6), a scene's pictures averaged."""

    method: str
    knob: str
    value: str
    pictures: int
    scenes: tuple[str, ...]
    scores: np.ndarray

    def column(self, measure: str) -> np.ndarray:
        """One measure by scene."""
        return self.scores[:, MEASURES.index(measure)]

    def interval(self, measure: str) -> tuple[float, float, float]:
        """Mean and the 95 % bootstrap interval over scenes."""
        return _interval(lambda rows: float(self.column(measure)[rows].mean()), len(self.scenes))


def _interval(function: Callable[[np.ndarray], float], scenes: int) -> tuple[float, float, float]:
    """`function` of all scenes, and its 2.5 and 97.5 percentiles over resampled scenes."""
    rng = np.random.default_rng(0)
    draws = [function(rng.integers(scenes, size=scenes)) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return function(np.arange(scenes)), float(low), float(high)


def read(folder: Path) -> list[Row]:
    """All rows of the scores files there are."""
    rows: list[Row] = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            rows += list(csv.DictReader(file))
    return rows


def points(rows: Iterable[Row]) -> list[Point]:
    """The rows by method, in the order of their first appearance; scenes in one order throughout."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["knob"], row["value"]), []).append(row)
    found = []
    for key, members in groups.items():
        scenes = tuple(sorted({m["scene"] for m in members}))
        table = [[[float(m[k]) for k in MEASURES] for m in members if m["scene"] == scene] for scene in scenes]
        found.append(Point(*key, len(members), scenes, np.array([np.mean(t, axis=0) for t in table])))
    return found


def lead(point: Point, curve: Sequence[Point], measure: str) -> tuple[float, float, float]:
    """How much more structure a point has than a curve of equal style: mean and 95 % interval, scenes resampled.

    The curve is read between its points, in order of their style. Where the point has more style than the whole
    curve it is compared with the curve's end.
    """

    def difference(rows: np.ndarray) -> float:
        style = np.array([other.column("style")[rows].mean() for other in curve])
        structure = np.array([other.column(measure)[rows].mean() for other in curve])
        order = np.argsort(style)
        there = np.interp(point.column("style")[rows].mean(), style[order], structure[order])
        return float(point.column(measure)[rows].mean() - there)

    return _interval(difference, len(point.scenes))


def by_kind(found: Iterable[Point]) -> dict[str, list[Point]]:
    """The points of every kind of method."""
    members = list(found)
    return {kind.value: [p for p in members if p.method == kind.value] for kind in Kind}


def write(folder: Path) -> None:
    """Write the tables of what has been measured."""
    rows = read(folder)
    found = points(rows)
    RESULTS.mkdir(parents=True, exist_ok=True)
    _write_csv(RESULTS / "quality.csv", [_line(p) for p in found])
    _write_csv(RESULTS / "quality-leads.csv", list(leads(by_kind(found))))
    _write_csv(RESULTS / "quality-pairs.csv", list(_pairs(rows)))


def leads(curves: Mapping[str, Sequence[Point]]) -> Iterable[dict[str, object]]:
    """Ditail's points against every other curve, at equal style."""
    for point in (p for p in curves[Kind.DITAIL.value] if p.knob == "positive scale"):
        for kind, curve in curves.items():
            if kind not in (Kind.DITAIL.value, Kind.GENERATED.value) and curve:
                for measure in STRUCTURE:
                    mean, low, high = lead(point, curve, measure)
                    place = {"positive_scale": point.value, "against": kind, "measure": measure}
                    yield {**place, "lead": f"{mean:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}"}


def _pairs(rows: Iterable[Row]) -> Iterable[dict[str, object]]:
    """The comparison's methods by ordered pair of styles."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row["knob"] in ("positive scale", "strength", "injection"):
            key = tuple(row[k] for k in ("method", "knob", "value", "source", "target"))
            groups.setdefault(key, []).append(row)
    for key, members in groups.items():
        means = {m: f"{np.mean([float(r[m]) for r in members]):.3f}" for m in MEASURES}
        names = ("method", "knob", "value", "source", "target")
        yield {**dict(zip(names, key, strict=True)), "pictures": len(members), **means}


def _line(point: Point) -> dict[str, object]:
    line: dict[str, object] = {"method": point.method, "knob": point.knob, "value": point.value}
    line["pictures"], line["scenes"] = point.pictures, len(point.scenes)
    for measure in MEASURES:
        for name, number in zip(("", "_low", "_high"), point.interval(measure), strict=True):
            line[measure + name] = f"{number:.3f}"
    return line


def _write_csv(path: Path, lines: Sequence[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    log.info("%s: %d lines", path.name, len(lines))
