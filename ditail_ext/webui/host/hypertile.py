"""The host's Hypertile, which lets self-attention work on tiles, and draws anew in each call how many.

The source's run and the record pass do without it, as the model alone would. In the picture's own pass a layer's
queries and keys are the tiles', so what is recorded is cut as they are: each layer draws twice, rows and columns,
right before it computes.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from modules import shared
from torch import nn

from ...core import Tiles

_MODULE, _DRAWS = "hypertile", "random_divisor"
_PARAMETERS = "__webui_hypertile_params"
"""Attribute of each layer that it has ever tiled; what ``enabled`` says there counts."""


def is_on() -> bool:
    """Whether the first pass is to be tiled."""
    return bool(getattr(shared.opts, "hypertile_enable_unet", False))


def is_known() -> bool:
    """Whether it is the one whose draws can be noted: AUTOMATIC1111's."""
    return hasattr(sys.modules.get(_MODULE), _DRAWS)


@contextmanager
def put_aside(unet: nn.Module) -> Iterator[None]:
    """A context in which no layer is tiled."""
    tiled = [parameters for parameters in _by_layer(unet).values() if parameters.enabled]
    for parameters in tiled:
        parameters.enabled = False
    try:
        yield
    finally:
        for parameters in tiled:
            parameters.enabled = True


@contextmanager
def noted(unet: nn.Module) -> Iterator[Callable[[str], Tiles | None]]:
    """A context that gives, by the path of a layer's projection, how the layer's tokens are cut right now.

    Args:
        unet: with Hypertile's wrappers on its layers.
    """
    module, layers = sys.modules[_MODULE], _by_layer(unet)
    draw: Callable[..., int] = getattr(module, _DRAWS)
    drawn: deque[tuple[int, int]] = deque(maxlen=2)

    def noting(value: int, *args: Any, **kwargs: Any) -> int:
        count = draw(value, *args, **kwargs)
        drawn.append((value, count))
        return count

    def tiles(site: str) -> Tiles | None:
        parameters = layers.get(site.rpartition(".")[0])
        if parameters is None or not parameters.enabled:
            return None
        (height, down), (width, across) = drawn
        return Tiles(height, width, down, across) if down * across > 1 else None

    setattr(module, _DRAWS, noting)
    try:
        yield tiles
    finally:
        setattr(module, _DRAWS, draw)


def _by_layer(unet: nn.Module) -> dict[str, Any]:
    return {name: vars(layer)[_PARAMETERS] for name, layer in unet.named_modules() if _PARAMETERS in vars(layer)}
