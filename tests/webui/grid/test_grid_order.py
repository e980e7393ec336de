"""The order in which a grid's cells are made: everything once, sources before their targets, few loads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from ditail_ext.webui.grid.order import Cell, Visit, plan

HOMES = [["a", "b"], ["a", "b", "c"], ["a", "a", "b"], ["a", "b", "a", "c"], ["a", "a"]]


def loads(visits: Sequence[Visit], loaded: str) -> int:
    """How often a checkpoint is loaded, with the return to the one that was loaded before."""
    sequence = [loaded, *(visit.checkpoint for visit in visits), loaded]
    return sum(before != after for before, after in itertools.pairwise(sequence))


def everything(homes: Sequence[str]) -> set[Cell]:
    return set(itertools.product(range(len(homes)), repeat=2))


def check(homes: Sequence[str], missing: set[Cell], loaded: str) -> None:
    visits = plan(homes, missing, loaded)
    made = [cell for visit in visits for cell in visit.cells]
    assert sorted(made) == sorted(missing)
    inverted: set[int] = set()
    for visit in visits:
        assert visit.cells or visit.invert
        assert {homes[row] for row in visit.invert} <= {visit.checkpoint}
        inverted |= set(visit.invert)
        for row, column in visit.cells:
            assert homes[column] == visit.checkpoint
            assert homes[row] == visit.checkpoint or row in inverted  # the source need not be loaded
            inverted.add(row)
    assert loads(visits, loaded) <= 2 * len(set(homes))


@pytest.mark.parametrize("homes", HOMES)
@pytest.mark.parametrize("loaded", ["a", "b", "x"])
def test_a_whole_grid(homes: list[str], loaded: str):
    check(homes, everything(homes), loaded)
    inside = loaded in homes
    assert loads(plan(homes, everything(homes), loaded), loaded) <= 2 * len(set(homes)) - 2 * inside


@pytest.mark.parametrize("homes", HOMES[:3])
@pytest.mark.parametrize("loaded", ["a", "c", "x"])
def test_every_rest_of_a_grid(homes: list[str], loaded: str):
    cells = sorted(everything(homes))
    for chosen in itertools.product([False, True], repeat=len(cells)):
        check(homes, {cell for cell, wanted in zip(cells, chosen, strict=True) if wanted}, loaded)


def test_no_sequence_of_loads_is_shorter():
    """Every source before every other target: with three checkpoints that takes five visits, four of them loads."""
    pairs = set(itertools.permutations("abc", 2))
    for visits in itertools.product("abc", repeat=4):
        assert not pairs <= set(itertools.combinations(visits, 2))
    assert loads(plan("abc", everything("abc"), "a"), "a") == 4


def test_nothing_to_do():
    assert plan("ab", set(), "a") == []
