"""A descendant of the WebUI makes the WebUI's pictures, and what is injected is seen in them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from harness.cases import CASES, LORA, MASKED_SAMPLERS, OTHERWISE, masked
from harness.client import SQUARE, Answer
from harness.pictures import NEAR, difference
from harness.probe import Records
from harness.server import WebUI

pytestmark = pytest.mark.server("reforge", "forge")

NAMES = ("alpha", "beta")
NEAR_LATENTS = 1e-3
"""Of latents of about 10; in the regenerated half alone, for the WebUI draws the rest from its posterior."""


@pytest.mark.parametrize("name", CASES)
def test_the_picture_is_the_webui_s(webui: WebUI, expected: Mapping[str, Answer], name: str):
    answer = CASES[name].ask(webui)
    assert answer.status == expected[name].status == 200, answer.sentence
    if name in OTHERWISE.get(webui.host, {}):
        assert difference(answer, CASES[name].without(name).ask(webui)) <= NEAR  # it is as if it was not asked for
    else:
        assert difference(answer, expected[name]) <= NEAR
    assert difference(answer, CASES[name].ask(webui, feature_ratio=0, attention_ratio=0)) > 2 * NEAR


@pytest.mark.parametrize("name", MASKED_SAMPLERS)
def test_a_mask_holds_the_kept_region_at_the_source(webui: WebUI, expected_masked: Mapping[str, Records], name: str):
    found, wanted = (records.samples[0][..., :8] for records in (masked(webui, name), expected_masked[name]))
    assert np.abs(found - wanted).max() < NEAR_LATENTS


def test_a_source_that_was_the_target_with_a_lora_is_without(webui: WebUI):
    """They change places without a load, and what the host had merged for the target's prompt is not the source's."""
    target = {name: {**SQUARE, "override_settings": {"sd_model_checkpoint": f"{name}.safetensors"}} for name in NAMES}
    alpha, beta = ({"source_checkpoint": f"{name}.safetensors"} for name in NAMES)
    webui.post("/ditail/v1/cache/clear")
    wanted = webui.img2img(alpha, **target["beta"])
    webui.post("/ditail/v1/cache/clear")
    assert webui.img2img(beta, prompt=LORA, **target["alpha"]).status == 200
    webui.probe.reset()
    answer = webui.img2img(alpha, **target["beta"])
    assert webui.probe.records().loads == []
    assert difference(answer, wanted) <= NEAR
    webui.txt2img(**target["alpha"])
