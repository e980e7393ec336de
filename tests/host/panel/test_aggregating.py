"""Further checkpoints by clicking: the panel says what will happen, and the picture says what has happened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness.pages.browser import missing
from harness.pages.page import Page, wait
from harness.pages.panel import control, enable, generate, number, says, small, unfold

pytestmark = [pytest.mark.server("panel"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]

SHOTS = os.environ.get("DITAIL_SCREENSHOTS")


def test_an_ordinary_picture_with_a_further_checkpoint(page: Page, tmp_path: Path):
    enable(page, "txt2img")
    small(page, "txt2img")
    unfold(page, "txt2img", "aggregation")
    alone = control("txt2img", "aggregation", "input[value='alone']")
    wait(lambda: page.visible(alone), "the part to open")
    page.click(alone)
    says(page, "txt2img", "Nothing is aggregated: name a further checkpoint.")
    page.choose("#script_txt2img_ditail_aggregate_1", "beta.safetensors")
    page.set(number("txt2img", "aggregation_ratio"), 0.4)
    words = says(page, "txt2img", "in the first 40%")
    assert "without a source, merged with beta in the first 40% of the steps" in words
    page.shoot("#script_txt2img_ditail_aggregation_section", Path(SHOTS or tmp_path) / "panel-aggregation.png")
    infotext = generate(page, "txt2img")
    assert "Ditail: True, Ditail aggregate 1: beta.safetensors [" in infotext
    assert "Ditail aggregate 1 weight: 0.5, Ditail aggregation ratio: 0.4" in infotext
    assert "Ditail aggregation: alone" in infotext
    assert "Ditail source" not in infotext
    assert page.severe() == []
