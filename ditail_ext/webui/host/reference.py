"""ControlNet's reference types: the picture's self-attention sees another picture's tokens, too.

Within each call of the UNet ControlNet passes its own picture through it first, and keeps what it finds there. In the
picture's pass each layer is given these tokens as further keys and values behind its own, and once more its own alone,
for the rows of the negative prompt. What Ditail injects belongs to the picture's pass, its rows and its own tokens.

Which of both passes is at work stands in an object that all of its functions share (read in its ``hook.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_STATES = ("attention_auto_machine", "gn_auto_machine")
_WRITES, _READS = "Write", "Read"
_OF_THE_NEGATIVE = "current_uc_indices"


class Reference:
    """What ControlNet is doing with the pass that is at work."""

    def __init__(self, hook: Any) -> None:
        """Args:
        hook: the object that its functions share.
        """
        self._hook = hook

    @staticmethod
    def of(function: Callable[..., Any]) -> Reference | None:
        """The one behind what stands for a block's ``_forward``; ``None`` where it is none, or does something else."""
        inner = getattr(function, "__func__", function)
        names = getattr(getattr(inner, "__code__", None), "co_freevars", ())
        cells = getattr(inner, "__closure__", None)
        if "outer" not in names or cells is None:
            return None
        hook = cells[names.index("outer")].cell_contents
        states = [getattr(getattr(hook, state, None), "name", None) for state in _STATES]
        known = all(state in (_WRITES, _READS) for state in states) and hasattr(hook, _OF_THE_NEGATIVE)
        return Reference(hook) if known else None

    def is_own(self) -> bool:
        """Whether the picture is passed through the UNet, and not ControlNet's."""
        return all(getattr(self._hook, state).name != _WRITES for state in _STATES)

    def rows(self, count: int) -> Sequence[int] | None:
        """Of the call's rows those that a layer is given where it is not given all."""
        negative: Sequence[int] = getattr(self._hook, _OF_THE_NEGATIVE)
        return negative if len(negative) == count else None
