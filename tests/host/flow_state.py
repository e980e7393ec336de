"""Comparing a host before and after a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.server import WebUI


@contextmanager
def unchanged_host(webui: WebUI) -> Iterator[None]:
    """The host's state and an ordinary request's picture are the same afterwards; the cache is empty before."""
    assert webui.post("/ditail/v1/cache/clear").status == 200
    webui.probe.reset()
    picture, before = webui.txt2img().pixels, webui.probe.state()
    yield
    webui.probe.reset()
    after = webui.probe.state()
    assert {name: (before[name], after[name]) for name in before if before[name] != after[name]} == {}
    assert webui.txt2img().pixels == picture
