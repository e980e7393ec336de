"""In which order a grid's cells are made, so that checkpoints are loaded as seldom as possible.

A source works beside the target, and its trajectory serves all targets: so every checkpoint is needed once as the
target and once as a source, where it is not the target itself. Column by column, then: while the first target is
loaded all sources do their part, and no other column loads any. The other columns come in the opposite direction,
because the source that was at work last may still wait in memory, and becomes the next target without a load.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeAlias

Cell: TypeAlias = tuple[int, int]
"""Row (source) and column (target), from 0."""


def plan(checkpoints: Sequence[Hashable], missing: Iterable[Cell], loaded: Hashable) -> list[Cell]:
    """The missing cells of a grid in the order in which they are made.

    Of m checkpoints, m - 1 are loaded as sources beside the first target, and as many as targets after it: 2m - 1
    loads where nothing is loaded at first and no source may wait, m where all may.

    Args:
        checkpoints: of each style, that is of each row and column; styles may share one.
        missing: the cells to make.
        loaded: the checkpoint that is loaded now.
    """
    left = sorted(missing)
    targets = list(dict.fromkeys(checkpoints[column] for _, column in sorted(left, key=lambda cell: cell[1])))
    first = [target for target in targets if target == loaded] or targets[:1]
    targets = [*first, *(target for target in reversed(targets) if target not in first)]
    return [cell for target in targets for cell in left if checkpoints[cell[1]] == target]
