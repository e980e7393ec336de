"""The host's flags that move weights about."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from harness.client import SQUARE_CIRCLE, circle
from harness.mixes import ALPHA, BETA, HALFWAY, ask, merge, mixed, plain
from harness.probe import Probe
from harness.reference import Reference, ddim_path, relative
from harness.server import WebUI
from harness.state import unchanged_host

from ditail_ext.settings import Settings

pytestmark = pytest.mark.server("medvram", "lowvram")

SETTINGS = Settings(enabled=True)


@pytest.fixture(scope="module")
def expected(model_files: Path) -> torch.Tensor:
    """What the core alone makes of the usual request; its weights stay where they are."""
    reference = Reference(model_files, BETA, ALPHA)
    path = ddim_path(reference)
    trajectory = reference.trajectory(circle(128, 128), path, SETTINGS)
    return reference.sample(trajectory, path, SETTINGS, cfg_scale=4.0)


def test_the_picture_is_the_same(webui: WebUI, probe: Probe, expected: torch.Tensor):
    """With an inversion, and with the kept one."""
    with unchanged_host(webui):
        for _ in range(2):
            probe.reset()
            assert webui.img2img({"source_checkpoint": BETA}, **SQUARE_CIRCLE).status == 200
            assert relative(probe.records().samples[0], expected) < 1e-4


def test_a_mix_is_the_merged_checkpoint_as_target(webui: WebUI, probe: Probe):
    merge(webui, HALFWAY)
    made, _ = ask(webui, probe, {"source_checkpoint": BETA}, target=HALFWAY)
    expected = probe.records().samples[0]
    with unchanged_host(webui):
        found, records = ask(webui, probe, mixed(0.5))
        assert relative(records.samples[0], expected) < 1e-4
        plain(webui)
    assert made.info["sd_model_name"] == "halfway"
    assert found.info["sd_model_name"] == "alpha"
