"""Tiles of a VAE, as another extension has set them up for the target (Tiled VAE does, in ``process``).

It puts an object of its own for the ``forward`` of the encoder and of the decoder. A source with a VAE of its own
works in the same tiles: whoever needs them for a picture needs them for its inversion, too.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

_PARTS = ("encoder", "decoder")


def tiles_of(model: Any, part: str) -> list[Any] | None:
    """What tells the tiles of a part of a model's VAE from others; ``None`` where there are none.

    Args:
        model: the host's.
        part: ``encoder`` or ``decoder``.
    """
    tiled = _tiled(_part_of(model, part))
    if tiled is None:
        return None
    plain = {name: value for name, value in vars(tiled).items() if isinstance(value, bool | int | float | str)}
    return [type(tiled).__qualname__, sorted(plain.items())]


@contextmanager
def tiled_as(target: Any, model: Any) -> Iterator[None]:
    """A context in which a model's VAE works in the tiles that the target's has been given.

    Args:
        target: the host's loaded model.
        model: another one, or the same.
    """
    with ExitStack() as undo:
        for name in _PARTS:
            theirs, ours = _part_of(target, name), _part_of(model, name)
            if ours is not theirs and ours is not None and _tiled(theirs) is not None:
                for attribute, value in _for(theirs, ours).items():
                    undo.callback(vars(ours).pop, attribute, None)
                    vars(ours)[attribute] = value
        yield


def _part_of(model: Any, part: str) -> Any:
    return getattr(getattr(model, "first_stage_model", None), part, None)


def _tiled(part: nn.Module | None) -> Any:
    """The object that stands for the ``forward``, if it is one that holds the part itself."""
    found = vars(part).get("forward") if part is not None else None
    holds = found is not None and any(value is part for value in getattr(found, "__dict__", {}).values())
    return found if holds and not isinstance(found, types.MethodType) else None


def _for(theirs: nn.Module, ours: nn.Module) -> dict[str, Any]:
    """The attributes of their part that belong to its tiles, made for ours."""
    tiled = copy.copy(vars(theirs)["forward"])
    for name, value in list(vars(tiled).items()):
        if value is theirs:
            setattr(tiled, name, ours)
    kept = {  # it keeps the method that it has replaced beside it
        name: types.MethodType(value.__func__, ours)
        for name, value in vars(theirs).items()
        if isinstance(value, types.MethodType) and value.__self__ is theirs
    }
    return {**kept, "forward": tiled}
