"""A planted omission: keys of the extension's caches that do not know one of the facts they depend on."""

from __future__ import annotations

import functools
import sys
from typing import Any

_USERS = ("source.inverter", "source.run_request", "source.models", "target.features")


def to(fact: str | None) -> None:
    """Let keys be the same whatever a fact is; with ``None`` they know all again."""
    for name in _USERS:
        user = sys.modules[f"ditail_ext.webui.{name}"]
        whole = getattr(user.key_of, "__wrapped__", user.key_of)
        user.key_of = whole if fact is None else _without(whole, fact)


def _without(whole: Any, fact: str) -> Any:
    @functools.wraps(whole)
    def key_of(kind: str, **facts: Any) -> str:
        wanted = sys.modules["ditail_ext.webui.cache.keys"].DEPENDS_ON[kind]
        return whole(kind, **({**facts, fact: None} if fact.replace("_", " ") in wanted else facts))

    return key_of
