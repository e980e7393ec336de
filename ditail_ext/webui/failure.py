"""Make a failure visible: the host swallows every exception raised in a script's callback.

``p.init`` and ``p.sample`` are not callbacks, so an error that a callback kept is raised again from there. The
wrappers are attributes of the request's own ``p`` and go with it.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn

import torch
from fastapi.exceptions import HTTPException

from ..errors import DitailError, NotEnoughMemoryError
from .cache import memory as cache

logger = logging.getLogger("ditail")

UNPROCESSABLE = 422
UNAVAILABLE = 503


class Refusal(HTTPException):
    """What a person is told when Ditail cannot do what was asked.

    Through the API it is an HTTP 422 (503 when memory is short) with the sentence as its detail; the WebUI shows the
    class and the sentence.
    """

    def __init__(self, error: DitailError) -> None:
        status = UNAVAILABLE if isinstance(error, NotEnoughMemoryError) else UNPROCESSABLE
        super().__init__(status_code=status, detail=str(error))

    def __str__(self) -> str:
        return str(self.detail)


def visible(error: BaseException) -> BaseException:
    """The exception to raise outside of the callbacks: a refusal for the user's errors, bugs as they are.

    When memory is short, features kept of earlier generations are the first to go.
    """
    told = error
    if isinstance(error, torch.cuda.OutOfMemoryError):
        cache.features.clear()
        told = NotEnoughMemoryError(
            "There is not enough memory for Ditail; use a smaller size or batch, or start the WebUI with --medvram."
        )
    if not isinstance(told, DitailError):
        return error
    refusal = Refusal(told)
    refusal.__cause__ = error
    return refusal


def fail_at_init(p: Any, error: Exception) -> None:
    """Let ``p.init``, which the host calls after the ``process`` callbacks, raise an error kept from one of them.

    Only the next call raises: scripts that use the same ``p`` again decide anew.
    """
    if isinstance(error, DitailError):
        logger.info("%s", error)
    else:
        logger.error("Ditail failed before the generation", exc_info=error)
    before = p.__dict__.get("init")

    def raise_kept(*args: object, **kwargs: object) -> NoReturn:
        if before is None:
            p.__dict__.pop("init", None)
        else:
            p.init = before
        raise visible(error)

    p.init = raise_kept
