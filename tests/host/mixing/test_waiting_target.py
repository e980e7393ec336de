"""A refiner where two checkpoints are held: the mixed target waits for the next request."""

from __future__ import annotations

import pytest
from harness.mixes import BETA, DELTA, ask, mixed, plain
from harness.server import WebUI
from harness.state import unchanged_host

pytestmark = pytest.mark.server("held")


def test_the_mix_ends_in_a_target_that_waits_for_the_refiner(webui: WebUI):
    request = {"refiner_checkpoint": DELTA, "refiner_switch_at": 0.6, "steps": 10, "denoising_strength": 0.9}
    plain(webui, target=DELTA)  # both are held from here on
    with unchanged_host(webui):
        state = webui.probe.state()["weights"]
        ask(webui, webui.probe, mixed(0.5, BETA, source_checkpoint="same as target"), **request)
        assert webui.probe.state()["weights"] != state  # the refiner's
        plain(webui)
        assert webui.probe.state()["weights"] == state
