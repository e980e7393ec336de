"""Failures become visible: a refusal for what a person can mend, bugs as they are."""

from __future__ import annotations

from typing import Any

import pytest

from ditail_ext.errors import CheckpointError


class TestFailure:
    @pytest.fixture
    def failure(self, host: Any) -> Any:
        return host.load("failure")

    def test_the_users_error_is_a_sentence_with_a_status(self, failure: Any):
        error = failure.visible(CheckpointError("Choose another."))
        assert (error.status_code, error.detail) == (422, "Ditail: Choose another.")
        assert f"{type(error).__name__}: {error}" == error.detail, "what the WebUI shows is the same sentence"

    def test_a_bug_stays_what_it_is(self, failure: Any):
        bug = KeyError("x")
        assert failure.visible(bug) is bug

    def test_init_raises_once_and_is_as_before(self, failure: Any):
        class Request:
            def init(self) -> str:
                return "made"

        p = Request()
        failure.fail_at_init(p, CheckpointError("No."))
        with pytest.raises(failure.Ditail, match="No"):
            p.init()
        assert (p.init(), vars(p)) == ("made", {})

    def test_the_prompts_raise_once_and_are_as_before(self, failure: Any):
        class Request:
            def setup_prompts(self) -> str:
                return "made"

        p = Request()
        failure.fail_at_prompts(p, CheckpointError("No."))
        with pytest.raises(failure.Ditail, match="No"):
            p.setup_prompts()
        assert (p.setup_prompts(), vars(p)) == ("made", {})
