"""Weights in half precision, as on a GPU: what has the wrong type fails here, without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from harness.client import SQUARE_CIRCLE, circle
from harness.mixes import ALPHA, BETA
from harness.probe import Probe
from harness.reference import Reference, ddim_path, relative
from harness.server import WebUI
from harness.state import unchanged_host

from ditail_ext.settings import Settings

pytestmark = [pytest.mark.server("half"), pytest.mark.slow]

CLOSE = 0.05
"""To single precision: half of it alone moves these random networks' latents by about a hundredth."""


@pytest.mark.parametrize(
    "changed",
    [{}, {"inversion_rule": "fast"}, {"feature_weight": 0.5, "attention_weight": 0.5}],
    ids=["defaults", "fast inversion", "half weights"],
)
def test_the_picture_is_the_same_as_in_single_precision(
    webui: WebUI, probe: Probe, model_files: Path, changed: dict[str, object]
):
    reference, settings = Reference(model_files, BETA, ALPHA), Settings(enabled=True, **changed)
    path = ddim_path(reference)
    expected = reference.sample(reference.trajectory(circle(128, 128), path, settings), path, settings, cfg_scale=4.0)
    with unchanged_host(webui):
        for _ in range(2):  # with an inversion, and with the kept one
            probe.reset()
            answer = webui.img2img({"source_checkpoint": BETA, **changed}, **SQUARE_CIRCLE)
            assert answer.status == 200, answer.body
            latent = torch.as_tensor(probe.records().samples[0])
            assert torch.isfinite(latent).all()
            assert relative(latent, expected) < CLOSE
