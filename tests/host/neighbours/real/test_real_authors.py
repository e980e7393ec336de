"""The authors' own Ditail beside this one, in one request and in turn."""

from __future__ import annotations

import pytest
from harness.beside import AUTHORS, SOURCES, ask
from harness.neighbours import apart
from harness.probe import Probe
from harness.server import WebUI
from harness.state import unchanged_host

pytestmark = pytest.mark.server("many")

THEIRS, BASE = AUTHORS.asked, AUTHORS.base


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("route", ["img2img", "txt2img"])
def test_on_together_is_refused_by_name_before_anything_begins(webui: WebUI, probe: Probe, route: str, source: str):
    make = getattr(webui, route)
    alone = make(SOURCES[source], **BASE)
    with unchanged_host(webui):
        ordinary = webui.txt2img().pixels
        probe.reset()
        answer, records = make(SOURCES[source], **BASE, **THEIRS), probe.records()
        assert answer.status == 422, answer.body
        assert "'authors-ditail'" in answer.sentence
        assert records.calls == records.loads == []
        assert webui.txt2img().pixels == ordinary
        assert make(SOURCES[source], **BASE).pixels == alone.pixels


def test_theirs_alone_is_as_before(webui: WebUI, probe: Probe):
    """It has an effect, and with this one off, or after this one, it is the same."""
    ask(webui, None, BASE)
    plain = ask(webui, None, BASE)
    theirs = ask(webui, None, BASE, THEIRS)
    assert theirs.status == 200, theirs.body
    assert apart(theirs, plain) > 2
    assert ask(webui, {"enabled": False}, BASE, THEIRS).pixels == theirs.pixels
