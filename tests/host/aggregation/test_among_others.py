"""Further checkpoints together with the host's refiner and plot, and with the grid."""

from __future__ import annotations

import numpy as np
import pytest
from harness.grids import SHORT, cells, grid
from harness.mixes import ALPHA, BETA, ask
from harness.plot import plot
from harness.probe import Probe
from harness.server import WebUI

pytestmark = pytest.mark.server("held")

ITSELF = {"aggregation": "alone", "aggregate_1": ALPHA, "aggregation_ratio": 0.3}


def test_a_refiner_takes_over_after_the_window(webui: WebUI, probe: Probe):
    request = {"route": "txt2img", "sampler_name": "Euler", "refiner_checkpoint": BETA, "refiner_switch_at": 0.6}
    answer, records = ask(webui, probe, ITSELF, **request)
    plain, _ = ask(webui, probe, {"enabled": False}, **request)
    found, wanted = (np.asarray(one.pictures[0], int) for one in (answer, plain))
    assert abs(found - wanted).max() <= 1
    assert [call.checkpoint for call in records.calls][-1] == BETA
    assert "Ditail range: until the refiner" in answer.infotext


def test_a_plot_over_weights(webui: WebUI):
    ditail = {"source_checkpoint": BETA, "aggregate_1": BETA, "aggregation_ratio": 0.7}
    answer = plot(
        webui, ("[Ditail] Weight (1)", "0.1, 0.9"), ("[Ditail] Aggregation ratio", "0.4, 0.7"), ditail=ditail
    )
    assert answer.status == 200, answer.body
    made = answer.pixels[1:]
    assert len(set(made)) == len(made) == 4
    texts = answer.info["infotexts"][1:]
    assert ["aggregate 1 weight: 0.1" in text for text in texts] == [True, False, True, False]
    assert ["aggregation ratio: 0.4" in text for text in texts] == [True, True, False, False]


def test_a_grid_s_cells_are_their_own_requests(webui: WebUI):
    ditail = {"aggregate_1": BETA, "aggregation_ratio": 0.5}
    made = cells(grid(webui, [ALPHA, BETA], ditail=ditail))
    assert len(set(made)) == 4
    for row, source in enumerate((ALPHA, BETA)):
        request = {"override_settings": {"sd_model_checkpoint": ALPHA}, **SHORT}
        alone = webui.img2img({**ditail, "source_checkpoint": source}, **request)
        assert alone.pixels == [made[2 * row]]
    other = cells(grid(webui, [ALPHA, BETA], ditail={**ditail, "aggregate_1_weight": 0.2}))
    assert not set(other) & set(made), "cells are kept by what they depend on"
