"""In which order a grid's cells are made, so that checkpoints are loaded as seldom as possible.

Every ordered pair of checkpoints (source, target) has to be met: the source inverts while it is loaded, and its
trajectory is kept for the target. A sequence of checkpoints in which every ordered pair occurs has at least 2m - 1
entries, because of two checkpoints that occur once only, one pair would be missing. So all sources are visited
first, and the targets then in the opposite direction, starting with the one that is still loaded.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Cell: TypeAlias = tuple[int, int]
"""Row (source) and column (target), from 0."""


@dataclass(frozen=True)
class Visit:
    """What is done while one checkpoint is loaded as the target.

    Attributes:
        checkpoint: the one.
        invert: rows whose source trajectory is made now although their cell here is there already.
        cells: the cells made now, in order.
    """

    checkpoint: Hashable
    invert: tuple[int, ...]
    cells: tuple[Cell, ...]


def plan(checkpoints: Sequence[Hashable], missing: Iterable[Cell], loaded: Hashable) -> list[Visit]:
    """The visits that make the missing cells of a grid.

    With the return to the checkpoint that was loaded before, m checkpoints are loaded 2m times at most, and
    2m - 2 times where the loaded one is among them.

    Args:
        checkpoints: of each style, that is of each row and column; styles may share one.
        missing: the cells to make.
        loaded: the checkpoint that is loaded now, and will be wanted again afterwards.
    """
    left = set(missing)
    lent = {row for row, column in left if checkpoints[row] != checkpoints[column]}
    lenders = _distinct((checkpoints[row] for row in sorted(lent)), loaded)
    visits = []
    for checkpoint in lenders:
        own = {cell for cell in left if all(checkpoints[style] == checkpoint for style in cell)}
        here = {row for row in lent if checkpoints[row] == checkpoint}
        visits.append(Visit(checkpoint, tuple(sorted(here - {row for row, _ in own})), tuple(sorted(own))))
        left -= own
    targets = _distinct((checkpoints[column] for _, column in sorted(left)), loaded)[::-1]
    targets.sort(key=lambda checkpoint: checkpoint != lenders[-1] if lenders else False)
    for checkpoint in targets:
        lent_to = sorted(cell for cell in left if checkpoints[cell[1]] == checkpoint)
        visits.append(Visit(checkpoint, (), tuple(lent_to)))
    return visits


def _distinct(checkpoints: Iterable[Hashable], first: Hashable) -> list[Hashable]:
    return sorted(dict.fromkeys(checkpoints), key=lambda checkpoint: checkpoint != first)
