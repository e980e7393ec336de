"""The benchmarks' own arithmetic: what is compared with what, and that memory is seen."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from bench import flops, memory, round_trip, webui_speed
from bench.shapes import SHAPES
from ditail_ext.core import InversionRule

MIB = 2**20


@pytest.mark.skipif(not memory.STATM.is_file(), reason="no /proc")
def test_the_peak_is_seen_though_it_is_given_back():
    def use() -> None:
        block = torch.ones(96 * MIB, dtype=torch.uint8)
        time.sleep(20 * memory.INTERVAL)
        del block

    peak = memory.peak_of(use, torch.device("cpu"))
    assert 90 * MIB < peak < 200 * MIB


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


def test_the_authors_round_trip_is_the_one_in_the_table():
    """Ten levels of the two golden UNets, once with a refinement."""
    plain, refined = round_trip.measure(["DDIM 10"], [(InversionRule.AUTHORS, 0), (InversionRule.AUTHORS, 1)])
    assert (plain.unet_calls, refined.unet_calls) == (10, 20)
    assert plain.relative_l2 == pytest.approx(1.838, rel=1e-3)
    assert refined.times_smaller == pytest.approx(1.37, abs=0.005)
