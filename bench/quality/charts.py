"""Charts of the quality bench, into docs/ (needs matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.quality.plan import DEFAULT, FULL, RATIOS_FULL, Kind
from bench.quality.tables import STRUCTURE, Point, by_kind, points, read
from ditail_ext.settings import TABLE

DOCS = Path(__file__).parents[2] / "docs"
LABELS = {
    "iou": "area: IoU",
    "boundary_f1": "outline: F1",
    "self_similarity": "likeness of local gradients",
    "style": "probability of the target's style",
    "style_distance": "distance to the target's own pictures",
    "faithful": "things right in shape and colour",
}
FULL_LAYERS = "Ditail, full layers, by both ratios"
GENERATED_FULL = "generated source, full layers, by both ratios"
COLOURS = {
    GENERATED_FULL: "#16a085",
    FULL_LAYERS: "#8e44ad",
    Kind.DITAIL.value: "#c0392b",
    Kind.IMG2IMG.value: "#2c3e50",
    Kind.NO_INJECTION.value: "#e67e22",
    Kind.NO_INVERSION.value: "#2980b9",
    Kind.TARGET_INVERTS.value: "#27ae60",
    Kind.GENERATED.value: "#8e44ad",
}


def write(folder: Path) -> None:
    """Draw what has been measured: one chart for each comparison and each setting."""
    curves = by_kind(points(read(folder)))
    ditail = curves[Kind.DITAIL.value]
    main = [p for p in ditail if p.knob == "positive scale"]
    common = {Kind.DITAIL.value: main, Kind.IMG2IMG.value: curves[Kind.IMG2IMG.value]}
    _draw_comparison(common, "img2img")
    for kind in (k for k in (Kind.NO_INJECTION, Kind.NO_INVERSION, Kind.TARGET_INVERTS) if curves[k.value]):
        _draw_comparison({**common, kind.value: curves[kind.value]}, kind.name.lower().replace("_", "-"))
    if full := [p for p in ditail if p.knob == RATIOS_FULL]:
        _draw_comparison({**common, FULL_LAYERS: full}, "full-layers")
    if generated := curves[Kind.GENERATED.value]:
        held = [p for p in generated if p.knob == RATIOS_FULL and "weight" not in p.value]
        others = [p for p in generated if p.knob != RATIOS_FULL]
        _draw_comparison({Kind.GENERATED.value: others, GENERATED_FULL: held}, "generated")
    default = next(p for p in main if p.value == _default_value("positive scale"))
    for knob in dict.fromkeys(p.knob for p in ditail if not p.knob.endswith(FULL)):
        _draw_knob(knob, [p for p in ditail if p.knob == knob], default)


def _draw_comparison(curves: Mapping[str, Sequence[Point]], name: str) -> None:
    """Structure against style, one panel for each measure of structure."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), constrained_layout=True)
    for axis, measure in zip(axes, STRUCTURE, strict=True):
        for kind, members in ((k, m) for k, m in curves.items() if m):
            _draw_curve(axis, kind, members, measure)
        axis.set_xlabel(LABELS["style"])
        axis.set_ylabel(LABELS[measure])
        axis.grid(alpha=0.25)
    axes[0].legend(frameon=False, loc="lower left")
    counts = sorted({p.pictures for members in curves.values() for p in members})
    pictures = " or ".join(str(count) for count in counts)
    figure.suptitle(f"Structure against style; {pictures} pictures a point, bars: 95 % intervals over scenes")
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
