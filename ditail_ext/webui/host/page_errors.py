"""Errors of reForge's page: its requests run in a thread of the host's, which prints what they raise and forgets it.

The page would show that ``None`` is not iterable, whatever a refusal says. A request's task has the outputs that the
page waits for; nothing but the function's return writes them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

_MODULE = "modules_forge.main_thread"


class _Failed:
    """In place of outputs: whoever unpacks them meets the error, and the host shows it as its others."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __iter__(self) -> Iterator[Any]:
        raise self._error


def keep_for_page(error: BaseException) -> None:
    """Leave an error that is about to be raised to the page that waits, where the host would forget it.

    Does nothing elsewhere: in the API, in the WebUI, and in Forge, whose tasks have a place for it. A request that
    succeeds after all writes its outputs over it.
    """
    task = _running_task()
    if task is not None and not hasattr(task, "exception"):
        task.result = _Failed(error)


def _running_task() -> Any:
    """The host's task that this was called in; its thread does not note which it is."""
    kind: type | None = getattr(sys.modules.get(_MODULE), "Task", None)
    if kind is None:
        return None
    frame = inspect.currentframe()
    while frame is not None:
        task = frame.f_locals.get("self")
        if frame.f_code.co_name == "work" and isinstance(task, kind):
            return task
        frame = frame.f_back
    return None
