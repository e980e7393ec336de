"""What a grid and a plot say that they will come to."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

NETWORKS: dict[str, dict[str, Any]] = {
    "devices": {},
    "extra_networks": {"extra_network_registry": {}},
    "sd_hijack": {},
}
"""Of the host's, what the room of networks needs to be imported."""


@pytest.fixture
def cost(host: SimpleNamespace) -> ModuleType:
    host.fake(devices={"device": SimpleNamespace(type="cpu")})
    return host.load("grid.cost")


@pytest.fixture
def measured(cost: ModuleType) -> ModuleType:
    """After one run of two pictures of 20 steps and 100 pixels: 4 s a load, 6 s the source, 10 s a picture."""
    split = {"load": 4.0, "encode": 1.0, "invert": 5.0, "sample": 19.0}
    times = SimpleNamespace(whole=30.0, split=lambda: split)
    cost.rates.last.learn(times, SimpleNamespace(steps=20, width=10, height=10), 2)
    return cost


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
def test_a_grid_s_cost(cost: ModuleType, checkpoints: list[str], loras: str, words: str):
    assert words in cost.grid_cost(checkpoints, loras, 20, 100)


def test_a_grid_s_time_is_that_of_the_last_runs(measured: ModuleType):
    """Nine pictures of 10 s, three sources of 6 s, four loads of 4 s; twice the steps are twice the pictures' time."""
    assert "loads of a checkpoint, one more" in (said := measured.grid_cost(["a", "b", "c"], "", 20, 100))
    assert ": about 3 min." in said
    work = measured.Work(pictures=9, sources=3, loads=4, steps=20, pixels=100)
    assert measured.rates.last.seconds(work) == pytest.approx(9 * 10 + 3 * 6 + 4 * 4)
    twice = measured.Work(pictures=9, sources=3, loads=4, steps=40, pixels=100)
    assert measured.rates.last.seconds(twice) == pytest.approx(2 * (9 * 10 + 3 * 6) + 4 * 4)


def test_nothing_is_told_of_what_was_never_measured(cost: ModuleType):
    assert "after a first generation" in cost.grid_cost(["a", "b"], "", 20, 100)
    times = SimpleNamespace(whole=10.0, split=lambda: {"sample": 9.0})
    cost.rates.last.learn(times, SimpleNamespace(steps=20, width=10, height=10), 1)
    assert cost.rates.last.seconds(cost.Work(1, 0, 0, 20, 100)) == pytest.approx(10)
    assert cost.rates.last.seconds(cost.Work(1, 1, 0, 20, 100)) is None
    assert cost.rates.last.told(cost.Work(1, 1, 2, 20, 100)) == "the time is told after a first generation"
    assert cost.rates.last.told(cost.Work(3, 0, 2, 20, 100)) == "about 30 s and the loads"


def test_one_slow_run_among_many_does_not_count(cost: ModuleType):
    for seconds in (10.0, 10.0, 900.0, 10.0):
        times = SimpleNamespace(whole=seconds, split=dict)
        cost.rates.last.learn(times, SimpleNamespace(steps=1, width=1, height=1), 1)
    assert cost.rates.last.seconds(cost.Work(1, 0, 0, 1, 1)) == 10


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "about 1 s"), (31.5, "about 32 s"), (100, "about 2 min"), (9000, "about 2.5 h")]
)
def test_a_time_in_words(cost: ModuleType, seconds: float, words: str):
    assert cost.rates.in_words(seconds) == words


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("", None, 0),
        ("a, b", None, 2),
        ('"a, b", c', None, 2),
        ("1-5", int, 5),
        ("1-5 (+2), 9", int, 4),
        ("0-1 [4]", float, 4),
        ("0-1 (+0.25)", float, 5),
        ("0-1 (+0.3)", float, 5),
        ("1-5", str, 1),
    ],
)
def test_values_are_counted_as_the_plot_reads_them(cost: ModuleType, text: str, kind: Any, values: int):
    assert cost.count(text, kind) == values


@pytest.mark.parametrize(
    ("axes", "enabled", "words"),
    [
        ([("Steps", 3)], False, ""),
        ([("[Ditail] Feature ratio", 0)], True, ""),
        (
            [("[Ditail] Feature ratio", 3)],
            True,
            "3 pictures with Ditail, up to 1 times a source's part, up to 0 loads",
        ),
        ([("[Ditail] Feature ratio", 3)], False, "axis switches Ditail on"),
        ([("Steps", 3)], True, "3 pictures with Ditail, up to 3 times"),
        (
            [("[Ditail] Source checkpoint", 3), ("Checkpoint name", 2)],
            True,
            "6 pictures with Ditail, up to 3 times a source's part, up to 5 loads",
        ),
        ([("Checkpoint name", 2), ("Nothing", 0)], True, "2 pictures with Ditail, up to 2 times a source's part"),
    ],
)
def test_a_plot_s_cost(cost: ModuleType, axes: list[tuple[str, int]], enabled: bool, words: str):
    said = cost.plot_cost([cost.Axis(*axis) for axis in axes], enabled=enabled, steps=20, pixels=100)
    assert (words in said) if words else said == ""
    assert ("switches" in said) == (not enabled and any(label.startswith("[Ditail]") for label, _ in axes))


@pytest.mark.parametrize(
    ("text", "name", "then"),
    [
        ("", "neon", "neon"),
        ("neon:0.5", "ink", "neon:0.5, ink"),
        ("neon, ", "ink", "neon, ink"),
        ("neon", None, "neon"),
    ],
)
def test_a_lora_from_the_list_is_added(host: SimpleNamespace, text: str, name: str | None, then: str):
    host.fake(infotext_utils={"PasteField": lambda *parts: parts, "quote": str}, **NETWORKS)
    assert host.load("grid.controls").with_lora(text, name) == (then, None)


def test_the_list_has_the_lora_tab_s_names(host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    host.fake(infotext_utils={"PasteField": lambda *parts: parts, "quote": str}, **NETWORKS)
    controls = host.load("grid.controls")
    known = {"neon": SimpleNamespace(name="neon"), "its alias": SimpleNamespace(name="neon")}
    monkeypatch.setattr(controls.networks, "known_loras", lambda: known)
    assert controls.lora_choices() == ["neon"]
    (checkpoints, _), _ = controls.build_controls(lambda name: name)
    assert checkpoints.choices == ["A.ckpt", "b.safetensors"]
