"""What a grid or a plot comes to, in words, before it starts."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from ...setting import Group, Section
from ...settings import CHECKPOINTS, TABLE
from .. import rates
from ..rates import Work

OURS = "[Ditail] "
"""Before the names of the plot's axes that are Ditail's."""

TARGET_AXES = ("Checkpoint name", "Refiner checkpoint")
SOURCE_AXES = tuple(f"{OURS}{TABLE[name].label}" for name in CHECKPOINTS)
"""Axes along which checkpoints are loaded."""

_OF_THE_TARGET = {Group.RATIOS, Group.LAYERS, Group.STARTS, Group.WEIGHTS, Group.REGION, Group.MIX}

_WITHOUT_SOURCE = (
    *("Nothing", "CFG Scale", "Seed", "Var. seed", "Var. strength", "Face restore"),
    *(
        f"{OURS}{row.label}"
        for row in TABLE.values()
        if row.group in _OF_THE_TARGET or row.group.section is Section.AGGREGATION
    ),
)
"""Axes along which the source has nothing more to do: its trajectory is kept."""

_NUMBER = r"\s*([+-]?\d+(?:\.\d*)?)\s*"
_RANGE = re.compile(rf"{_NUMBER}-{_NUMBER}(?:\(([+-]\d+(?:\.\d*)?)\s*\))?\s*")
_COUNTED = re.compile(rf"{_NUMBER}-{_NUMBER}\[\s*(\d+)\s*\]\s*")


@dataclass(frozen=True)
class Axis:
    """One axis of the plot.

    Attributes:
        label: as the plot's menu has it.
        values: how many.
    """

    label: str
    values: int

    @property
    def ours(self) -> bool:
        """Whether it is Ditail's."""
        return self.label.startswith(OURS)


def grid_cost(checkpoints: Sequence[str] | None, loras: str | None, steps: int, pixels: int) -> str:
    """What a grid comes to: HTML. How many sources may wait in memory is known only then."""
    count, styles = len(checkpoints or []), len([name for name in (loras or "").split(",") if name.strip()])
    side = count + styles
    if side < 2:
        return "<p>Choose at least two styles.</p>"
    most = max(0, 2 * count - 2)
    loads = f"{count - 1} to {most} loads of a checkpoint" if count > 1 else "no load of a checkpoint"
    selected = ", one more where the selected one is none of them" if count else ""
    work = f"{side} x {side} = {side * side} pictures, {side} times a source's part, {loads}{selected}"
    time = rates.last.told(Work(side * side, side, most, steps, pixels))
    return f"<p>{work}: {time}. Kept cells are not made again.</p>"


def plot_cost(axes: Sequence[Axis], *, enabled: bool, steps: int, pixels: int) -> str:
    """What a plot comes to, if Ditail has a part in it: HTML, empty if it has none."""
    used = [axis for axis in axes if axis.label != "Nothing" and axis.values]
    ours = any(axis.ours for axis in used)
    if not used or not (ours or enabled):
        return ""
    pictures = math.prod(axis.values for axis in used)
    fixed = _WITHOUT_SOURCE + (TARGET_AXES if any(axis.label == SOURCE_AXES[0] for axis in used) else ())
    sources = math.prod(axis.values for axis in used if axis.label not in fixed)
    targets = math.prod(axis.values for axis in used if axis.label in TARGET_AXES)
    others = math.prod(axis.values for axis in used if axis.label in SOURCE_AXES)
    loads = (targets if targets > 1 else 0) + (others if others > 1 else 0)
    work = (
        f"{pictures} pictures with Ditail, up to {sources} times a source's part, up to {loads} loads of a checkpoint"
    )
    time = rates.last.told(Work(pictures, sources, loads, steps, pixels))
    switched = (
        "" if enabled or not ours else " Its [Ditail] axis switches Ditail on; the panel's other settings apply."
    )
    return f"<p>{work}: {time}.{switched}</p>"


def count(text: str, kind: type | None = None) -> int:
    """How many values an axis' text has, as the plot reads it.

    Args:
        text: values with commas between them.
        kind: ``int`` or ``float`` where ranges count: ``1-5``, ``1-5 (+2)``, ``0-1 [4]``.
    """
    rows = csv.reader(StringIO(text), skipinitialspace=True)
    values = [value.strip() for row in rows for value in row if value.strip()]
    return sum(_in_range(value, kind) for value in values) if kind in (int, float) else len(values)


def _in_range(value: str, kind: type | None) -> int:
    if found := _COUNTED.fullmatch(value):
        return int(found.group(3))
    found = _RANGE.fullmatch(value)
    if found is None:
        return 1
    first, last, step = float(found.group(1)), float(found.group(2)), float(found.group(3) or 1)
    end = last + (step if kind is float else 1)  # the plot's own two ways to make the last one count
    return max(0, math.ceil(round((end - first) / step, 9))) if step else 1
