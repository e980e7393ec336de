"""The time split: every second to the innermost part, in ``info`` and the log but never in an infotext."""

from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Clock:
    """Stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits = 0

    def __call__(self) -> float:
        return self.now

    def wait(self) -> None:
        self.waits += 1

    def __iadd__(self, seconds: float) -> Clock:
        self.now += seconds
        return self


@pytest.fixture
def timing(host: Any) -> Any:
    devices = ModuleType("modules.devices")
    devices.device = SimpleNamespace(type="cpu")
    sys.modules["modules.devices"] = sys.modules["modules"].devices = devices
    return host.load("timing")


def test_an_inner_parts_time_is_not_the_outers(timing: Any):
    clock, part = Clock(), timing.Part
    times = timing.TimeSplit(clock)
    clock += 50  # before anything: nobody's
    with times.part(part.SAMPLE):
        clock += 1
        for _ in range(3):
            with times.part(part.RECORD):
                clock += 0.25
            clock += 2
    clock += 50  # between parts: nobody's
    with times.part(part.LOAD):
        clock += 4
    assert times.split() == {"load": 4, "record": 0.75, "sample": 7}
    assert list(times.split()) == ["load", "record", "sample"]


def test_a_part_that_fails_is_counted_and_closed(timing: Any):
    clock = Clock()
    times = timing.TimeSplit(clock)

    def fail() -> None:
        nonlocal clock
        clock += 1
        raise KeyError

    with pytest.raises(KeyError), times.part(timing.Part.SAMPLE), times.part(timing.Part.RECORD):
        fail()
    clock += 9
    with times.part(timing.Part.INVERT):
        clock += 2
    assert times.split() == {"invert": 2, "record": 1, "sample": 0}


def test_what_is_told(timing: Any, caplog: pytest.LogCaptureFixture):
    clock = Clock()
    times = timing.TimeSplit(clock)
    with times.part(timing.Part.SAMPLE):
        clock += 1.2344
    of_the_request = {"Ditail": True}
    processed = SimpleNamespace(extra_generation_params=of_the_request)
    with caplog.at_level(logging.INFO, "ditail"):
        times.tell(processed)
    assert processed.extra_generation_params == {"Ditail": True, "Ditail seconds": {"sample": 1.234}}
    assert of_the_request == {"Ditail": True}  # infotexts are written from it
    assert caplog.messages == ["sample 1.23 s"]


@pytest.mark.parametrize(("device", "asked", "waits"), [("cuda", True, 2), ("cuda", False, 0), ("cpu", True, 0)])
def test_waits_for_a_gpu_only_if_asked(
    timing: Any, host: Any, monkeypatch: pytest.MonkeyPatch, device: str, asked: bool, waits: int
):
    clock = Clock()
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: clock.wait())
    host.modules.devices.device.type = device
    setattr(host.modules.shared.opts, host.load("options").EXACT_TIMES, asked)
    with timing.of_this_device().part(timing.Part.LOAD):
        pass
    assert clock.waits == waits
