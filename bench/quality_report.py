"""Tables and charts of the quality bench: means with confidence intervals, and the distance between curves."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.quality_methods import DEFAULT, Kind
from ditail_ext.settings import TABLE

log = logging.getLogger(__name__)

MEASURES = ("iou", "boundary_f1", "self_similarity", "style", "style_distance", "faithful")
STRUCTURE = ("iou", "boundary_f1", "self_similarity")
RESAMPLES = 2000
ROOT = Path(__file__).parents[1]
RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"
LABELS = {
    "iou": "area: IoU",
    "boundary_f1": "outline: F1",
    "self_similarity": "likeness of local gradients",
    "style": "probability of the target's style",
    "style_distance": "distance to the target's own pictures",
    "faithful": "things right in shape and colour",
}
COLOURS = {
    Kind.DITAIL.value: "#c0392b",
    Kind.IMG2IMG.value: "#2c3e50",
    Kind.NO_INJECTION.value: "#e67e22",
    Kind.NO_INVERSION.value: "#2980b9",
    Kind.TARGET_INVERTS.value: "#27ae60",
    Kind.GENERATED.value: "#8e44ad",
}
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


def write(folder: Path) -> None:
    """Write the tables and the charts of what has been measured."""
    found = points(read(folder))
    RESULTS.mkdir(parents=True, exist_ok=True)
    _write_csv(RESULTS / "quality.csv", [_line(p) for p in found])
    by_kind = {kind.value: [p for p in found if p.method == kind.value] for kind in Kind}
    defaults = [p for p in by_kind[Kind.DITAIL.value] if p.knob == "positive scale"]
    _write_csv(RESULTS / "quality-leads.csv", list(leads(defaults, by_kind)))
    pairs = list(_pairs(read(folder)))
    _write_csv(RESULTS / "quality-pairs.csv", pairs)
    _draw_comparison({Kind.DITAIL.value: defaults, **{k: by_kind[k] for k in (Kind.IMG2IMG.value,)}}, "img2img")
    for kind in (Kind.NO_INJECTION, Kind.NO_INVERSION, Kind.TARGET_INVERTS):
        curves = {Kind.DITAIL.value: defaults, Kind.IMG2IMG.value: by_kind[Kind.IMG2IMG.value]}
        _draw_comparison({**curves, kind.value: by_kind[kind.value]}, kind.name.lower().replace("_", "-"))
    default = next(p for p in defaults if p.value == _default_value("positive scale"))
    knobs = dict.fromkeys(p.knob for p in by_kind[Kind.DITAIL.value])
    for knob in knobs:
        _draw_knob(knob, [p for p in by_kind[Kind.DITAIL.value] if p.knob == knob], default)


def leads(ditail: Sequence[Point], by_kind: dict[str, list[Point]]) -> Iterable[dict[str, object]]:
    """Ditail's points against every other curve, at equal style."""
    for point in ditail:
        for kind, curve in by_kind.items():
            if kind not in (Kind.DITAIL.value, Kind.GENERATED.value) and curve:
                for measure in STRUCTURE:
                    mean, low, high = lead(point, curve, measure)
                    place = {"positive_scale": point.value, "against": kind, "measure": measure}
                    yield {**place, "lead": f"{mean:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}"}


def _pairs(rows: Iterable[Row]) -> Iterable[dict[str, object]]:
    """The comparison's methods by ordered pair of styles."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row["knob"] in ("positive scale", "strength"):
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


def _draw_comparison(curves: dict[str, list[Point]], name: str) -> None:
    """Structure against style, one panel for each measure of structure."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), constrained_layout=True)
    for axis, measure in zip(axes, STRUCTURE, strict=True):
        for kind, members in curves.items():
            _draw_curve(axis, kind, members, measure)
        axis.set_xlabel(LABELS["style"])
        axis.set_ylabel(LABELS[measure])
        axis.grid(alpha=0.25)
    axes[0].legend(frameon=False, loc="lower left")
    count = next(iter(curves.values()))[0].pictures
    figure.suptitle(f"Structure against style; {count} pictures a point, bars: 95 % intervals over scenes")
    _save(figure, f"quality-{name}.png")


def _draw_curve(axis: Axes, kind: str, members: Sequence[Point], measure: str) -> None:
    x, y = (np.array([p.interval(m) for p in members]) for m in ("style", measure))
    errors = [np.abs(np.stack([v[:, 0] - v[:, 1], v[:, 2] - v[:, 0]])) for v in (x, y)]
    look = {"color": COLOURS[kind], "ms": 4, "lw": 1.4, "elinewidth": 0.7}
    axis.errorbar(x[:, 0], y[:, 0], errors[1], errors[0], "o-", label=kind, **look)
    for point, across, up in zip(members, x[:, 0], y[:, 0], strict=True):
        axis.annotate(point.value, (across, up), (4, 4), textcoords="offset points", fontsize=7, color=COLOURS[kind])


def _draw_knob(knob: str, members: Sequence[Point], default: Point) -> None:
    """One setting's effect on every measure that is a share."""
    values = {p.value: p for p in members}
    if knob != "positive scale":
        values[_default_value(knob)] = default
    order = sorted(values, key=lambda v: (0, float(v)) if _is_number(v) else (1, 0.0))
    figure, axis = plt.subplots(figsize=(6, 4), constrained_layout=True)
    for measure, style in (("iou", "o-"), ("boundary_f1", "s-"), ("style", "^-"), ("faithful", "d--")):
        y = np.array([values[v].interval(measure) for v in order])
        axis.plot(range(len(order)), y[:, 0], style, label=LABELS[measure], ms=4)
        axis.fill_between(range(len(order)), y[:, 1], y[:, 2], alpha=0.12)
    axis.set_xticks(range(len(order)), [f"{v}\n(default)" if values[v] is default else v for v in order])
    axis.set_xlabel(knob)
    axis.set_ylim(0, 1.02)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
    _save(figure, f"quality-knob-{knob.replace(' ', '-')}.png")


def _default_value(knob: str) -> str:
    if knob == "steps":
        return str(DEFAULT.steps)
    default = TABLE[knob.replace(" ", "_")].default
    return default if isinstance(default, str) else f"{default:g}"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _save(figure: plt.Figure, name: str) -> None:
    figure.savefig(DOCS / name, dpi=90)
    plt.close(figure)
