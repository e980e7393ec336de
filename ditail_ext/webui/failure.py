"""Make a failure visible: the host swallows every exception raised in a script's callback.

``p.init`` and ``p.sample`` are not callbacks, so an error that a callback kept is raised again from there. The
wrappers are attributes of the request's own ``p`` and go with it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn

from fastapi.exceptions import HTTPException

from ..core import is_out_of_memory
from ..errors import DitailError, NotEnoughMemoryError
from ..settings import TABLE
from .cache import memory as cache
from .host.page_errors import keep_for_page
from .request.pictures import LABELS

logger = logging.getLogger("ditail")

_INIT = "ditail_init"
"""Attribute of the host's request: our ``init``, and the one that was there on the instance."""

_OF_THE_GRID = {"checkpoints": "Checkpoints of the grid", "loras": "LoRAs of the grid"}

UNPROCESSABLE = 422
UNAVAILABLE = 503


class Ditail(HTTPException):
    """What a person is told when Ditail cannot do what was asked: "Ditail: <label on the panel>: what; what to do".

    Through the API it is an HTTP 422 (503 when memory is short) with the sentence as its detail.
    """

    def __init__(self, error: DitailError) -> None:
        status = UNAVAILABLE if isinstance(error, NotEnoughMemoryError) else UNPROCESSABLE
        self._sentence = with_label(str(error))
        super().__init__(status_code=status, detail=f"Ditail: {self._sentence}")

    def __str__(self) -> str:
        return self._sentence


def with_label(sentence: str) -> str:
    """A sentence that begins with a setting's name, with the label that the panel has for it in its place."""
    first, _, rest = sentence.partition(" ")
    label = _labels().get(first.rstrip(":"))
    return sentence if label is None else f"{label}: {rest}"


def _labels() -> dict[str, str]:
    return {**{name: setting.label for name, setting in TABLE.items()}, **LABELS, **_OF_THE_GRID}


def visible(error: BaseException) -> BaseException:
    """The exception to raise outside of the callbacks: a refusal for the user's errors, bugs as they are.

    When memory is short, features kept of earlier generations are the first to go.
    """
    told = error
    if is_out_of_memory(error):
        cache.features.clear()
        cache.models.clear()
        told = NotEnoughMemoryError(
            "There is not enough memory for Ditail; use a smaller size or batch, or start the WebUI with --medvram."
        )
    if not isinstance(told, DitailError):
        return error
    refusal = Ditail(told)
    keep_for_page(refusal)
    return refusal


def raise_visibly(error: Exception) -> NoReturn:
    """Raise what :func:`visible` makes of an error; to be called where it is handled."""
    told = visible(error)
    if told is error:
        raise error
    raise told from error


def before_init(p: Any, action: Callable[[], None]) -> None:
    """Let something happen when the host calls ``p.init``, before that does its own work.

    By then every extension's ``process`` has run: prompts are final, whatever the extensions' order. And unlike in a
    callback an exception is not swallowed there, so the request fails visibly. Only the next call is concerned:
    scripts that use the same ``p`` again decide anew.
    """
    forget_init(p)
    before, original = p.__dict__.get("init"), p.init

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        ours, _ = p.__dict__.get(_INIT, (None, None))
        forget_init(p)
        if ours is init:  # else whoever wrapped us calls once more, or for a request that is over
            try:
                action()
            except (DitailError, RuntimeError, MemoryError) as error:  # the latter two may be a lack of memory
                raise_visibly(error)
        return original(*args, **kwargs)

    setattr(p, _INIT, (init, before))
    p.init = init


def forget_init(p: Any) -> None:
    """Undo :func:`before_init`, unless somebody wrapped ``p.init`` since; then it is left to pass through."""
    ours, before = p.__dict__.pop(_INIT, (None, None))
    if ours is None or p.__dict__.get("init") is not ours:
        return
    if before is None:
        del p.__dict__["init"]
    else:
        p.init = before


def fail_at_prompts(p: Any, error: Exception) -> None:
    """Let ``p.setup_prompts`` raise an error, which the host calls before any extension's ``process``. Once."""

    def setup_prompts(*_: Any, **__: Any) -> NoReturn:
        del p.__dict__["setup_prompts"]
        raise_visibly(error)

    p.setup_prompts = setup_prompts


def fail_at_init(p: Any, error: Exception) -> None:
    """Let ``p.init`` raise an error that a callback met."""
    if isinstance(error, DitailError):
        logger.info("%s", error)
    else:
        logger.error("Ditail failed before the generation", exc_info=error)

    def raise_it() -> NoReturn:
        raise error

    before_init(p, raise_it)
