"""Every fast path gives what the three-row method gives, in every precision, on the layouts of all families."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench import three_rows as yardstick
from bench.equality import BATCHES, Case, distance, errors, fast, injection_effect, three_rows
from bench.shapes import SHAPES, Shape
from ditail_ext.core import PrefetchingCache, Shortcut

ALL_SHAPES = pytest.mark.parametrize("shape", vars(SHAPES).values(), ids=lambda shape: shape.name)
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
SINGLE, HALF = 1e-5, 1e-2


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Where the UNets of the tests of equality compute."""
    return str(request.config.getoption("--device"))


def in_turn() -> Iterator[Any]:
    """Each layout with each batch, masked or not in turn; the slow run has both everywhere."""
    for shape_number, shape in enumerate(vars(SHAPES).values()):
        for number, (sources, images) in enumerate(BATCHES):
            for masked in (False, True):
                marks = [pytest.mark.slow] * (masked != (shape_number + number) % 2)
                name = f"{sources}-{images}-{'masked' if masked else 'everywhere'}-{shape.name}"
                yield pytest.param(shape, masked, sources, images, id=name, marks=marks)


@pytest.mark.parametrize(("shape", "masked", "sources", "images"), in_turn())
def test_single_precision(shape: Shape, masked: bool, sources: int, images: int, device: str):
    case = Case(shape, torch.float32, sources, images, masked, device)
    found = errors(case)
    assert len(found) == 6
    assert max(found.values()) < SINGLE, found
    assert injection_effect(case) > 1000 * SINGLE


@ALL_SHAPES
@HALVES
@pytest.mark.parametrize(("sources", "images", "masked"), [(1, 1, False), (1, 3, True)])
def test_half_precision(shape: Shape, dtype: torch.dtype, sources: int, images: int, masked: bool, device: str):
    case = Case(shape, dtype, sources, images, masked, device)
    found = errors(case, [Shortcut.PROJECTIONS])
    assert max(found.values()) < HALF, found


def test_the_yardstick_can_tell(monkeypatch: pytest.MonkeyPatch):
    """A block too few, or a step too few, is far beyond what is allowed."""
    case = Case(SHAPES.sd15, torch.float32, 1, 1, masked=False)
    picture = case.picture(10)
    found = fast(case, picture, Shortcut.PROJECTIONS, case.trajectory, PrefetchingCache(0, 0))
    for name, value in (("ATTENTION_BLOCKS", {"SD1.5": range(5, 12)}), ("FEATURE_STEPS", 1), ("ATTENTION_STEPS", 0)):
        with monkeypatch.context() as changed:
            changed.setattr(yardstick, name, value)
            assert distance(found, three_rows(case, picture)) > 10 * SINGLE, name
    other = replace(case, masked=True)
    assert distance(found, three_rows(other, picture)) > 10 * SINGLE


@pytest.mark.parametrize(
    ("name", "parameters"), [("sd15", 859_520_964), ("sd2", 865_910_724), ("sdxl", 2_567_463_684)]
)
def test_the_shapes_are_those_of_the_models(name: str, parameters: int):
    with torch.device("meta"):
        unet = getattr(SHAPES, name).build()
    assert sum(parameter.numel() for parameter in unet.parameters()) == parameters
