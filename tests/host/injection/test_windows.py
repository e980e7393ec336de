"""Windows in the WebUI: which steps are recorded, and what serves several of them."""

from __future__ import annotations

import pytest
from harness.client import encode
from harness.probe import Probe
from harness.reference import relative
from harness.regions import BETA, generate, half, recorded
from harness.server import WebUI

pytestmark = pytest.mark.server("held")


def test_stated_defaults_are_the_defaults(webui: WebUI, probe: Probe):
    stated = {"feature_start": 0.0, "attention_start": 0, "feature_weight": 1, "attention_weight": 1.0}
    first = generate(webui, probe, BETA)
    again = generate(webui, probe, {**BETA, **stated, "region": "everywhere"})
    assert relative(again.samples[0], first.samples[0]) < 1e-6


def test_nothing_is_recorded_where_no_window_is_open(webui: WebUI, probe: Probe):
    """6 steps at strength 0.75 are 3 of DDIM's."""
    counts = {}
    for name, change in {
        "all": {},
        "from the second": {"feature_start": 0.34, "attention_start": 0.34},
        "features of the third": {"feature_ratio": 1.0, "feature_start": 0.67, "attention_ratio": 0.0},
        "no features": {"feature_weight": 0.0},
        "nothing": {"feature_weight": 0.0, "attention_weight": 0.0},
    }.items():
        webui.post("/ditail/v1/cache/clear")
        everything = {**BETA, "feature_ratio": 1.0, "attention_ratio": 0.67}
        counts[name] = recorded(generate(webui, probe, {**everything, **change}))
    assert counts == {"all": 3, "from the second": 2, "features of the third": 1, "no features": 2, "nothing": 0}


def test_an_empty_window_is_said(webui: WebUI):
    answer = webui.img2img({**BETA, "attention_start": 0.5})
    assert 'Ditail injection: "no attention, no step lies in its window"' in answer.infotext


def test_kept_features_serve_other_weights_and_regions(webui: WebUI, probe: Probe):
    changes = [{"feature_weight": 0.4}, {"attention_weight": 0.4}, {"mask": encode(half())}, {"attention_start": 0.3}]
    webui.post("/ditail/v1/cache/clear")
    assert recorded(generate(webui, probe, BETA)) > 0
    kept = [generate(webui, probe, {**BETA, **change}) for change in changes]
    assert [recorded(found) for found in kept] == [0] * len(changes)
    for change, found in zip(changes, kept, strict=True):
        webui.post("/ditail/v1/cache/clear")
        assert relative(found.samples[0], generate(webui, probe, {**BETA, **change}).samples[0]) < 1e-5
