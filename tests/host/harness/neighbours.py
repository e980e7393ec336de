"""How tests ask a neighbour, and how far apart two pictures are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .client import Answer
from .probe import Records

Ask = Callable[..., tuple[Answer, Records]]
"""Makes a request: Ditail's arguments (``None``: without), what the neighbour does, ``route``, and more."""


def apart(one: Answer, other: Answer) -> float:
    """Mean difference of two answers' last pictures, of 255; the host's own random numbers make less than 1."""
    first, second = (np.frombuffer(answer.pixels[-1], np.uint8).astype(float) for answer in (one, other))
    return float(np.abs(first - second).mean())
