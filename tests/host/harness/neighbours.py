"""How tests ask a neighbour, and how far apart two pictures are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .client import Answer, circle, encode
from .probe import Records

Ask = Callable[..., tuple[Answer, Records]]
"""Makes a request: Ditail's arguments (``None``: without), what the neighbour does, ``route``, and more."""

SEVERAL: dict[str, tuple[int, dict[str, Any]]] = {
    "batch count": (3, {"n_iter": 3}),
    "loopback": (3, {"script_name": "Loopback", "script_args": [3, 0.75, "Linear", "None"]}),
    "SD upscale": (
        4,
        {"init_images": [encode(circle(256, 128))], "script_name": "SD upscale", "script_args": ["", 0, "None", 1.0]},
    ),
}
"""Requests of img2img in several passes: how many, and what asks for them."""


def apart(one: Answer, other: Answer) -> float:
    """Mean difference of two answers' last pictures, of 255; the host's own random numbers make less than 1."""
    first, second = (np.frombuffer(answer.pixels[-1], np.uint8).astype(float) for answer in (one, other))
    return float(np.abs(first - second).mean())
