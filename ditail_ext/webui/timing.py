"""Where a generation's seconds go: one line in the log, one entry in the result's ``info``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import torch
from modules import devices

from .options import exact_times

logger = logging.getLogger("ditail")

INFO_KEY = "Ditail seconds"
"""Of ``extra_generation_params`` in the result's ``info``; not in the infotext, which must say the same each time."""


class Part(str, Enum):
    """The parts of a generation, in the order in which they come."""

    LOAD = "load"
    MOVE = "move"
    ENCODE = "encode"
    INVERT = "invert"
    GENERATE = "generate the content"
    MIX = "mix"
    AGGREGATE = "aggregate"
    RECORD = "record"
    SAMPLE = "sample"


class TimeSplit:
    """Seconds by part of one generation. Within a part another one may run, whose time is then not the outer's.

    Args:
        clock: seconds since any moment.
        wait: called before the clock is read, so that a device's work counts for the part that asked for it.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, wait: Callable[[], None] | None = None) -> None:
        self._clock = clock
        self._wait = wait
        self._seconds: dict[Part, float] = {}
        self._open: list[Part] = []
        self._since = 0.0
        self._made = clock()

    @property
    def whole(self) -> float:
        """Seconds since it was made."""
        return self._clock() - self._made

    @contextmanager
    def part(self, part: Part) -> Iterator[None]:
        """Count what runs within for a part, also when it fails."""
        self._turn()
        self._open.append(part)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        """Give the time since the last turn to the innermost part."""
        if self._wait is not None:
            self._wait()
        now = self._clock()
        if self._open:
            part = self._open[-1]
            self._seconds[part] = self._seconds.get(part, 0.0) + now - self._since
        self._since = now

    def split(self) -> dict[str, float]:
        """Seconds by the name of each part, in milliseconds' precision; a part that did not run has none."""
        return {part.value: round(self._seconds[part], 3) for part in Part if part in self._seconds}

    def tell(self, processed: Any) -> None:
        """Write the log's line, and put the split into the result's ``info``, whose infotexts are done by now."""
        split = self.split()
        logger.info("%s", ", ".join(f"{name} {seconds:.2f} s" for name, seconds in split.items()))
        processed.extra_generation_params = {**processed.extra_generation_params, INFO_KEY: split}


def of_this_device() -> TimeSplit:
    """A split that waits for the GPU where there is one and the option asks for it; waiting costs a little itself."""
    waits = devices.device.type == "cuda" and exact_times()
    return TimeSplit(wait=(lambda: torch.cuda.synchronize(devices.device)) if waits else None)
