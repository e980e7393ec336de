"""ControlNet's reference types are known by what their functions share, and what else has such functions is not."""

from __future__ import annotations

import types
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest


class Machine(Enum):
    Read = "Read"
    Write = "Write"
    StyleAlign = "StyleAlign"


class Hook:
    def __init__(self) -> None:
        self.attention_auto_machine = self.gn_auto_machine = Machine.Read
        self.current_uc_indices: list[int] = []


def function_of(outer: Any) -> Callable[..., Any]:
    def hacked(self: Any, x: Any) -> Any:
        return outer, x

    return types.MethodType(hacked, object())


@pytest.fixture
def reference(host: SimpleNamespace) -> Any:
    return host.load("host.reference").Reference


def test_which_pass_is_at_work(reference: Any):
    hook = Hook()
    found = reference.of(function_of(hook))
    assert found.is_own()
    for state in ("attention_auto_machine", "gn_auto_machine"):
        setattr(hook, state, Machine.Write)
        assert not found.is_own()
        setattr(hook, state, Machine.Read)
    assert found.is_own()


def test_which_rows_a_layer_is_given(reference: Any):
    hook = Hook()
    found = reference.of(function_of(hook))
    hook.current_uc_indices = [2, 3]
    assert found.rows(2) == [2, 3]
    assert found.rows(3) is None


@pytest.mark.parametrize("state", ["attention_auto_machine", "gn_auto_machine"])
def test_style_align_is_something_else(reference: Any, state: str):
    hook = Hook()
    setattr(hook, state, Machine.StyleAlign)
    assert reference.of(function_of(hook)) is None


def test_others_are_not_known(reference: Any):
    without_rows = Hook()
    del without_rows.current_uc_indices
    for outer in (object(), SimpleNamespace(attention_auto_machine=Machine.Read), without_rows):
        assert reference.of(function_of(outer)) is None
    assert reference.of(lambda x: x) is None
    assert reference.of(len) is None
