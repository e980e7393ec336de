"""Breaks one function of the host's or of the extension's, wherever it is called from.

A place is ``module:function`` or ``module:Class.function``; ``script`` is the module that the host made of
``scripts/ditail.py``. A function that a module has imported by name is broken there, under the name of that module.
"""

from __future__ import annotations

import errno
import functools
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from modules import scripts, shared

AROUND = "go around"
"""Of a module's ``__call__``: it calls its class's ``forward``, whatever is on the object."""

BUTTONS = ("interrupt", "skip", "stop_generating")

_EXCEPTIONS: dict[str, Callable[[str], Exception]] = {
    "RuntimeError": RuntimeError,
    "ValueError": ValueError,
    "KeyError": KeyError,
    "MemoryError": MemoryError,
    "OutOfMemoryError": torch.cuda.OutOfMemoryError,
    "disk full": lambda text: OSError(errno.ENOSPC, text),
    "read-only": lambda text: PermissionError(errno.EACCES, text),
    "gone": lambda text: FileNotFoundError(errno.ENOENT, text),
    "locked": lambda text: sqlite3.OperationalError(f"database is locked ({text})"),
    "damaged": lambda text: sqlite3.DatabaseError(f"file is not a database ({text})"),
}
"""What a place raises, by name; the memory error is torch's own."""


def exception(name: str) -> Exception:
    """An exception by its name."""
    return _EXCEPTIONS[name]("thrown by the probe")


@dataclass
class _Broken:
    owner: Any
    name: str
    before: Any
    had_own: bool


class Breaker:
    """At most one place is broken, and only for one of its calls."""

    def __init__(self) -> None:
        self.reached = 0
        self._broken: _Broken | None = None

    def set(self, place: str | None, at: int, how: str) -> None:
        """Mend what was broken, and break a place, if one is named, at one of its calls.

        Args:
            place: as this module says.
            at: the call, from 1.
            how: name of an exception, of a button that is pressed, or :data:`AROUND`, which is so at every call.
        """
        self._mend()
        self.reached = 0
        if place is None:
            return
        owner, name = _find(place)
        had_own = name in vars(owner)
        before = vars(owner)[name] if had_own else getattr(owner, name)
        call = before.__func__ if isinstance(before, staticmethod | classmethod) else before

        @functools.wraps(call)
        def broken(*args: Any, **kwargs: Any) -> Any:
            self.reached += 1
            if self.reached == at:
                if how not in BUTTONS:
                    raise exception(how)
                getattr(shared.state, how)()
            return call(*args, **kwargs)

        def around(module: Any, *args: Any, **kwargs: Any) -> Any:
            self.reached += 1
            return type(module).forward(module, *args, **kwargs)

        kind = type(before) if isinstance(before, staticmethod | classmethod) else (lambda function: function)
        setattr(owner, name, around if how == AROUND else kind(broken))
        self._broken = _Broken(owner, name, before, had_own)

    def _mend(self) -> None:
        broken, self._broken = self._broken, None
        if broken is None:
            return
        if broken.had_own:
            setattr(broken.owner, broken.name, broken.before)
        else:
            delattr(broken.owner, broken.name)


def _find(place: str) -> tuple[Any, str]:
    module, path = place.split(":")
    *owners, name = path.split(".")
    owner = _script() if module == "script" else sys.modules[module]
    for one in owners:
        owner = getattr(owner, one)
    return owner, name


def _script() -> Any:
    """Ours among those that the host has loaded; it may have loaded them again."""
    found = [data.module for data in scripts.scripts_data if data.script_class.__name__ == "DitailGrid"]
    return found[-1]


BREAKER = Breaker()
