"""The benchmarks' own arithmetic: what is compared with what, and that memory is seen."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from bench import cheaper, flops, memory, round_trip
from bench.aggregation import __main__ as aggregation
from bench.quality import __main__ as quality
from bench.shapes import SHAPES
from bench.webui import in_a_row
from bench.webui import speed as webui_speed
from ditail_ext.core import InversionRule

MIB = 2**20


@pytest.mark.skipif(not memory.Resident(os.getpid()).counted, reason="only Linux keeps the highest memory use")
def test_the_peak_is_seen_though_it_is_given_back_at_once():
    def use(size: int) -> None:
        torch.ones(size * MIB, dtype=torch.uint8)

    cpu = torch.device("cpu")
    assert 180 * MIB < memory.peak_of(lambda: use(192), cpu) < 300 * MIB
    assert 90 * MIB < memory.peak_of(lambda: use(96), cpu) < 150 * MIB  # the higher one before is forgotten


def test_ratios_are_to_the_plain_run_of_the_same_round_and_webui():
    times = webui_speed.Times(
        {
            webui_speed.PLAIN: [1.0, 2.0, 4.0],
            webui_speed.FIRST: [2.0, 4.0, 4.0],
            webui_speed.PLAIN_THERE: [2.0, 2.0, 2.0],
            webui_speed.AUTHORS: [5.0, 6.0, 4.0],
        },
        {
            webui_speed.FIRST: [
                {"load": 0.2, "sample": 1.0},
                {"load": 0.4, "sample": 3.0},
                {"load": 0.3, "sample": 1.1},
            ]
        },
    )
    rows = {row[1]: row[2:] for row in webui_speed.table(times, "here")}
    assert rows[webui_speed.PLAIN] == ("2.00", "1.00", "1.00", "1.00", "")
    assert rows[webui_speed.FIRST] == ("4.00", "2.00", "1.00", "2.00", "load 0.30, sample 1.10")
    assert rows[webui_speed.AUTHORS] == ("5.00", "2.50", "2.00", "3.00", "")


@pytest.mark.parametrize(("found", "passes"), [('{"Ditail seconds": 1}', True), ("{}", False)])
def test_an_ordinary_picture_is_no_measurement(monkeypatch: pytest.MonkeyPatch, found: str, passes: bool):
    monkeypatch.setattr(webui_speed, "_parts", lambda info: {})
    server = SimpleNamespace(post=lambda path, asked: {"info": found}, log=lambda: "all well")
    times = webui_speed.Times()
    if passes:
        times.take(server, "mode", {}, "Ditail seconds")
        assert len(times.seconds["mode"]) == 1
    else:
        with pytest.raises(RuntimeError, match="without it"):
            times.take(server, "mode", {}, "Ditail seconds")


class Counting:
    """A WebUI that says at each request what it was told to; a load is a line in its log."""

    def __init__(self, said: list[str]) -> None:
        self.said, self.asked, self.text = said, [], "Loading weights [0] from target"

    def post(self, _path: str, asked: dict[str, object]) -> dict[str, str]:
        self.asked.append(asked)
        self.text += self.said.pop(0)
        return {"info": '{"Ditail seconds": 1}'}

    def log(self) -> str:
        return self.text


LOAD = "Loading weights [0] from source"


def test_pictures_in_a_row_are_others_each_time_and_the_warm_up_s_loads_do_not_count():
    server = Counting([LOAD, "", LOAD, "", LOAD])
    question = webui_speed.Question("source.safetensors", 64, 2)
    ask = lambda question, seed: question.ditail(seed)  # noqa: E731
    seconds, loads = in_a_row.in_a_row(server, question, 3, ask, "Ditail seconds")
    assert (len(seconds), loads) == (3, 2)
    for name in ("seed", "prompt"):
        assert len({str(asked[name]) for asked in server.asked}) == 5
    assert len({str(asked["init_images"]) for asked in server.asked}) == 4  # the warm-up's two are one


@pytest.mark.parametrize(("said", "marker"), [("", "ditail args"), ("Traceback", "Ditail seconds")])
def test_a_row_of_ordinary_pictures_is_no_measurement(said: str, marker: str):
    server = Counting(["", "", said])
    question = webui_speed.Question("source.safetensors", 64, 2)
    with pytest.raises(RuntimeError, match="without it"):
        in_a_row.in_a_row(server, question, 1, lambda question, seed: question.plain(seed), marker)


def test_a_row_s_line_has_the_first_picture_apart_from_the_others():
    assert in_a_row.row("x", [9.0, 2.0, 4.0, 3.0], 1, 12.0) == ("x", "4", "18.0", "9.0", "3.0", "1.50", "1")


def test_counted_flops_of_a_narrow_unet_have_the_arithmetics_order():
    shape = SHAPES.sd15.narrow()
    with torch.device("meta"):
        unet = shape.build()
    found = flops.ratios(unet, shape, 1)
    assert found["features cached"] < 1 < found["trajectory cached"] < found["reference, trajectory cached"]
    assert found["reference, trajectory cached"] < 1.5
    assert found["first time"] == pytest.approx(found["trajectory cached"] + 0.5)
    fast = [found[f"first time, fast inversion, {steps} steps"] - found["trajectory cached"] for steps in (20, 30, 50)]
    record = found["trajectory cached"] - found["features cached"]
    assert found["first time, recorded every second step"] == pytest.approx(found["first time"] - record / 2)
    assert fast == pytest.approx([0.5 * calls / steps for calls, steps in ((8, 20), (11, 30), (18, 50))])


@pytest.mark.parametrize("main", [quality.main, cheaper.main, aggregation.main])
@pytest.mark.parametrize("count", ["0", "1", "-18", "many"])
def test_scenes_that_the_pairs_cannot_share_are_refused_before_anything_is_measured(
    main: Callable[[], None], count: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["bench", f"--scenes={count}"])
    with pytest.raises(SystemExit):
        main()
    assert "must be a multiple of 18" in capsys.readouterr().err


def test_the_authors_round_trip_is_the_one_in_the_table():
    """Ten levels of the two golden UNets, once with a refinement."""
    plain, refined = round_trip.measure(["DDIM 10"], [(InversionRule.AUTHORS, 0), (InversionRule.AUTHORS, 1)])
    assert (plain.unet_calls, refined.unet_calls) == (10, 20)
    assert plain.relative_l2 == pytest.approx(1.838, rel=1e-3)
    assert refined.times_smaller == pytest.approx(1.37, abs=0.005)
