"""The order in which a grid's cells are made: everything once, sources before their targets, few loads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from ditail_ext.webui.grid.order import Cell, plan

HOMES = [["a", "b"], ["a", "b", "c"], ["a", "a", "b"], ["a", "b", "a", "c"], ["a", "a"]]


def loads(homes: Sequence[str], cells: Sequence[Cell], loaded: str, waiting: int) -> int:
    """How often a checkpoint is loaded, where so many source models may wait and inversions are kept."""
    target, held, inverted, count = loaded, [], set(), 0
    for row, column in cells:
        if homes[column] != target:
            if homes[column] in held:
                held.remove(homes[column])
                held.append(target)
            else:
                count += 1
            target = homes[column]
        if row not in inverted and homes[row] not in (target, *held):
            count += 1
            held.append(homes[row])
        inverted.add(row)
        held = held[max(len(held) - waiting, 0) :]
    return count


def everything(homes: Sequence[str]) -> set[Cell]:
    return set(itertools.product(range(len(homes)), repeat=2))


@pytest.mark.parametrize("homes", HOMES)
@pytest.mark.parametrize("loaded", ["a", "b", "x"])
def test_a_whole_grid(homes: list[str], loaded: str):
    cells, distinct = plan(homes, everything(homes), loaded), len(set(homes))
    assert sorted(cells) == sorted(everything(homes))
    first = loaded not in homes
    assert loads(homes, cells, loaded, 0) <= 2 * len(homes) - 2 + first  # a style is a source of its own
    assert loads(homes, cells, loaded, distinct) <= distinct - 1 + first
    targets = [homes[column] for _, column in cells]
    assert sum(one != other for one, other in itertools.pairwise(targets)) == distinct - 1  # each target once


@pytest.mark.parametrize("homes", HOMES[:3])
@pytest.mark.parametrize("loaded", ["a", "c", "x"])
def test_every_rest_of_a_grid(homes: list[str], loaded: str):
    cells = sorted(everything(homes))
    for chosen in itertools.product([False, True], repeat=len(cells)):
        missing = {cell for cell, wanted in zip(cells, chosen, strict=True) if wanted}
        assert sorted(plan(homes, missing, loaded)) == sorted(missing)


def test_the_source_that_worked_last_becomes_the_next_target():
    """With room for one waiting model, a grid of four costs one load less than without."""
    cells = plan("abcd", everything("abcd"), "a")
    assert [loads("abcd", cells, "a", waiting) for waiting in (0, 1, 4)] == [6, 5, 3]


def test_nothing_to_do():
    assert plan("ab", set(), "a") == []
