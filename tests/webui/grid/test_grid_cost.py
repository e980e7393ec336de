"""What the grid says that it will come to."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.mark.parametrize(
    ("checkpoints", "loras", "words"),
    [
        ([], "", "at least two"),
        (["a"], "", "at least two"),
        (None, None, "at least two"),
        (["a", "b", "c"], "", "3 x 3 = 9 pictures, 3 times a source's part, 2 to 4 loads"),
        (["a"], "x:0.5, y", "3 x 3 = 9 pictures, 3 times a source's part, no load"),
        (["a", "b"], "x, ", "3 x 3 = 9 pictures, 3 times a source's part, 1 to 2 loads"),
    ],
)
def test_the_cost_before_it_starts(host: SimpleNamespace, checkpoints: list[str], loras: str, words: str):
    host.fake(infotext_utils={"PasteField": object, "quote": str})
    controls = host.load("grid.controls")
    assert words in controls.cost(checkpoints, loras)


def test_it_is_said_anew_with_each_choice(host: SimpleNamespace):
    host.fake(infotext_utils={"PasteField": lambda *parts: parts, "quote": str})
    (checkpoints, loras), _ = host.load("grid.controls").build_controls(lambda name: name)
    for one in (checkpoints, loras):
        (event,) = one.events["change"]
        assert event["inputs"] == [checkpoints, loras]
        assert "9 pictures" in event["fn"](["a", "b", "c"], "")
