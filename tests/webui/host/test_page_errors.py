"""What a page is told where the host's thread forgets what a request raises (reForge)."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from ditail_ext.errors import DitailError


class Task:
    """As reForge's."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.result: Any = None

    def work(self) -> None:
        self.result = self.function()


class ForgesTask(Task):
    """Has a place for the error."""

    exception: BaseException | None = None


@pytest.fixture(params=[Task, ForgesTask])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Task]:
    """The host's class of tasks."""
    module = types.ModuleType("modules_forge.main_thread")
    module.Task = request.param  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules_forge.main_thread", module)
    return request.param


@pytest.fixture
def refused(host: Any) -> Callable[[], Any]:
    """What a request does that is refused."""
    failure = host.load("failure")

    def ask() -> Any:
        try:
            raise DitailError("mask: there is none; give one.")
        except DitailError as error:
            failure.raise_visibly(error)

    return ask


def test_whoever_waits_for_the_outputs_meets_the_refusal(kind: type[Task], refused: Callable[[], Any]):
    task = kind(refused)
    with pytest.raises(Exception, match="there is none") as raised:
        task.work()
    if kind is ForgesTask:
        assert task.result is None
        return
    with pytest.raises(type(raised.value)) as met:
        list(task.result)
    assert met.value is raised.value


def test_a_request_that_succeeds_after_all_has_its_outputs(kind: type[Task], refused: Callable[[], Any]):
    def made_all_the_same() -> list[str]:
        with pytest.raises(Exception, match="there is none"):
            refused()
        return ["picture"]

    task = kind(made_all_the_same)
    task.work()
    assert task.result == ["picture"]


def test_what_is_not_running_is_left_alone(kind: type[Task], refused: Callable[[], Any]):
    before = kind(lambda: ["picture"])
    before.work()
    with pytest.raises(Exception, match="there is none"):
        refused()
    assert before.result == ["picture"]
