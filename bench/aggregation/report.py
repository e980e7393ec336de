"""Tables and the chart of the aggregation bench (needs matplotlib)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.aggregation.plan import RUNS, Start
from bench.quality.tables import MEASURES, RESULTS, Point, Row, points

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = ("iou", "boundary_f1", "self_similarity", "style", "faithful")
COLOURS = {
    "target alone": "#2c3e50",
    "injection": "#16a085",
    "slerp": "#c0392b",
    "released": "#8e44ad",
    "both": "#e67e22",
}


def write(folder: Path) -> None:
    """Tables and chart of what has been measured."""
    rows = read(folder)
    found = [(start, points([row for row in rows if row["start"] == start.value])) for start in Start]
    _write_csv(RESULTS / "aggregation.csv", [_line(start, p) for start, members in found for p in members])
    _write_csv(RESULTS / "aggregation-pairs.csv", list(_pairs(rows)))
    measured = [(start, members) for start, members in found if members]
    size = (6.5 * len(measured), 5)
    figure, axes = plt.subplots(1, len(measured), figsize=size, constrained_layout=True, squeeze=False)
    for axis, (start, members) in zip(axes[0], measured, strict=True):
        _draw(axis, start, members)
    figure.savefig(DOCS / "aggregation.png", dpi=80)
    plt.close(figure)


def read(folder: Path) -> list[Row]:
    """All rows of the scores files there are, as the quality bench's tables want them."""
    rows: list[Row] = []
    for name in RUNS:
        path = folder / f"{name}.csv"
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows += [{"knob": row["start"], **row} for row in csv.DictReader(file)]
    return rows


def _line(start: Start, point: Point) -> dict[str, object]:
    line: dict[str, object] = {"start": start.value, "method": point.method, "value": point.value}
    line |= {"pictures": point.pictures, "scenes": len(point.scenes)}
    for measure in MEASURES:
        for name, number in zip(("", "_low", "_high"), point.interval(measure), strict=True):
            line[measure + name] = f"{number:.3f}"
    return line


def _pairs(rows: Sequence[Row]) -> list[dict[str, object]]:
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    names = ("start", "method", "value", "source", "target")
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    lines = []
    for key, members in sorted(groups.items()):
        means = {m: f"{np.mean([float(row[m]) for row in members]):.3f}" for m in SHOWN}
        lines.append({**dict(zip(names, key, strict=True)), "pictures": len(members), **means})
    return lines


def _look(method: str) -> str:
    """Which of the colours a curve has."""
    if " + " in method:
        return "both"
    return next(name for name in COLOURS if method.startswith(name))


def _draw(axis: Axes, start: Start, members: Sequence[Point]) -> None:
    """Structure against style, a curve for each weight and for injection."""
    curves: dict[str, list[Point]] = {}
    for point in members:
        curves.setdefault(point.method, []).append(point)
    for method, curve in curves.items():
        curve = sorted(curve, key=lambda p: [int(word) for word in p.value.replace(",", "").split() if word.isdigit()])
        colour = COLOURS[_look(method)]
        x, y = (np.array([p.interval(m) for p in curve]) for m in ("style", "iou"))
        errors = [np.abs(np.stack([v[:, 0] - v[:, 1], v[:, 2] - v[:, 0]])) for v in (x, y)]
        weight = method.split()[1] if method.startswith("slerp") and " + " not in method else ""
        style = {"0.3": ":", "0.5": "-", "0.7": "--"}.get(weight, "-")
        look = {"color": colour, "ms": 4, "lw": 1.4, "elinewidth": 0.6, "ls": style, "marker": "o"}
        axis.errorbar(x[:, 0], y[:, 0], errors[1], errors[0], label=method, **look)
        for point, across, up in zip(curve, x[:, 0], y[:, 0], strict=True):
            text = f"{weight}: {point.value}" if weight else point.value
            axis.annotate(text, (across, up), (5, 4), textcoords="offset points", fontsize=7, color=colour)
    title = f"from the {start.value}; {members[0].pictures} pictures a point"
    axis.set(title=title, ylabel="area kept: IoU")
    axis.set_xlim(0.7, 1.02)
    axis.set_xlabel("probability of the target's style")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=7, loc="lower left")


def _write_csv(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
