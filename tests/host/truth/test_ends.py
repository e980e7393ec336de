"""Interrupt and Skip while the source works, whatever the host's grid options; a disk that fails ends nothing."""

from __future__ import annotations

import pytest
from harness.probe import Probe
from harness.server import WebUI
from harness.state import options, unchanged_host

BETA = {"source_checkpoint": "beta.safetensors"}


@pytest.mark.parametrize("one_in_a_grid", [True, False])
@pytest.mark.parametrize("stop", ["interrupt", "skip"])
@pytest.mark.parametrize("tab", ["img2img", "txt2img"])
def test_stopped_while_the_source_works(webui: WebUI, probe: Probe, tab: str, stop: str, one_in_a_grid: bool):
    changed = {"grid_only_if_multiple": not one_in_a_grid, "return_grid": True, "grid_save": False}
    with options(webui, changed), unchanged_host(webui):
        probe.reset(stop_at=2, stop=stop)
        answer = getattr(webui, tab)(BETA, n_iter=2)
        assert answer.status == 200, answer.body
        assert answer.body["images"] == []
        assert not [call for call in probe.records().calls if call.sampling and call.checkpoint == "alpha.safetensors"]


def test_a_damaged_index_on_disk(webui: WebUI, probe: Probe):
    """The picture is made, and made the same."""
    small = {"width": 128, "height": 64, "steps": 3}
    with options(webui, {"ditail_disk_cache_mb": 64}):
        first = webui.img2img(BETA, **small)
        damaged = list((webui.data / "cache" / "ditail").rglob("cache.db*"))
        assert damaged, "the inversion was to be kept on disk"
        for path in damaged:
            path.write_bytes(b"no database" * 400)
        again = webui.img2img({**BETA, "positive_scale": 2.0}, **small)
        assert again.status == 200, again.body
        assert webui.post("/ditail/v1/cache/clear").status == 200
        assert webui.img2img(BETA, **small).pixels == first.pixels
