"""What the last generations took, by which the next ones' time is told before they start."""

from __future__ import annotations

import math
import statistics
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from .timing import Part, TimeSplit

_SOURCE = (Part.ENCODE, Part.INVERT, Part.GENERATE)
_KEPT = 8


@dataclass(frozen=True)
class Work:
    """What is to be made.

    Attributes:
        pictures: how many.
        sources: how often a source inverts or generates a content.
        loads: how often a checkpoint is loaded.
        steps: of the sampler.
        pixels: of one picture.
    """

    pictures: int
    sources: int
    loads: int
    steps: int
    pixels: int


class Rates:
    """Seconds of the last runs, each as a share of what it did.

    A picture's and a source's time go with steps times pixels; a load's is one number. Of what was never measured
    nothing is told.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, deque[float]] = {}

    def learn(self, times: TimeSplit, p: Any, pictures: int) -> None:
        """Learn from a run that has ended.

        Args:
            times: of the run.
            p: the host's request.
            pictures: how many were made.
        """
        whole, split, size = times.whole, times.split(), p.steps * p.width * p.height
        load = split.get(Part.LOAD.value, 0.0)
        source = sum(split.get(part.value, 0.0) for part in _SOURCE)
        with self._lock:
            self._add("picture", max(0.0, whole - load - source) / (size * max(pictures, 1)))
            if source > 0:
                self._add("source", source / size)
            if load > 0:
                self._add("load", load)

    def seconds(self, work: Work) -> float | None:
        """What the work would take; ``None`` while a part of it has never been measured."""
        size = work.steps * work.pixels
        wanted = {"picture": work.pictures * size, "source": work.sources * size, "load": work.loads}
        with self._lock:
            known = {name: list(self._seconds.get(name, ())) for name, amount in wanted.items() if amount}
        if not known or not all(known.values()):
            return None
        return sum(statistics.median(values) * wanted[name] for name, values in known.items())

    def told(self, work: Work) -> str:
        """The time as one says it; where no load was ever measured, as all models waited in memory, without them."""
        whole, rest = self.seconds(work), self.seconds(replace(work, loads=0))
        return in_words(whole) if whole is not None or rest is None else f"{in_words(rest)} and the loads"

    def forget(self) -> None:
        """As if nothing had been made yet."""
        with self._lock:
            self._seconds.clear()

    def _add(self, name: str, value: float) -> None:
        self._seconds.setdefault(name, deque(maxlen=_KEPT)).append(value)


def in_words(seconds: float | None) -> str:
    """A time as one says it."""
    if seconds is None:
        return "the time is told after a first generation"
    if seconds < 90:
        return f"about {max(1, math.ceil(seconds))} s"
    minutes = seconds / 60
    return f"about {math.ceil(minutes)} min" if minutes < 90 else f"about {minutes / 60:.1f} h"


last = Rates()
"""Of this WebUI, since it was started."""
