"""Beside the real extensions, where $WEBUI_EXTENSIONS names a folder of their checkouts."""

from __future__ import annotations

from typing import Any

import pytest
from harness.client import Answer
from harness.probe import Probe, Records
from harness.server import WebUI
from harness.state import unchanged_host

pytestmark = pytest.mark.server("real")

ITSELF = {"source_checkpoint": "same as target"}


def run(webui: WebUI, **request: Any) -> tuple[Answer, Records]:
    webui.post("/ditail/v1/cache/clear")
    webui.probe.reset()
    answer = webui.img2img(ITSELF, **request)
    return answer, webui.probe.records()


def inverted(records: Records) -> list[bytes]:
    """What the source's UNet gave."""
    return [call.output.tobytes() for call in records.calls if not call.sampling and call.output is not None]


def script(name: str, *args: Any) -> dict[str, Any]:
    return {"alwayson_scripts": {name: {"args": list(args)}}}


REFUSED = {
    "MultiDiffusion": ("multidiffusion-upscaler-for-automatic1111", "MultiDiffusion"),
    "Mixture of Diffusers": ("multidiffusion-upscaler-for-automatic1111", "Mixture of Diffusers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_by_name_before_anything_is_computed(webui: WebUI, probe: Probe, case: str):
    who, what = REFUSED[case]
    tiles = [True, what, False, True, 1024, 1024, 8, 8, 4, 4, "None", 1.0]
    asked = script("Tiled Diffusion", *tiles)
    alone, before = run(webui)
    run(webui, **asked)
    run(webui)  # they go with the next request of this tab; what they leave of the model is theirs
    with unchanged_host(webui):
        answer, records = run(webui, **asked)
        assert answer.status == 422, answer.body
        assert f"'{who}'" in answer.sentence
        assert records.calls == []
        again, after = run(webui)
    assert again.pixels == alone.pixels
    assert inverted(after) == inverted(before)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_source_is_told_the_prompt_that_negpip_leaves(webui: WebUI, probe: Probe, batch: int):
    written, alone = run(webui, prompt="a red circle, ", batch_size=batch)
    both, records = run(webui, prompt="a red circle, (blue:-1.2)", batch_size=batch, **script("NegPiP", True))
    assert both.status == 200, both.body
    wanted = inverted(alone)
    assert inverted(records)[-len(wanted) :] == wanted
    assert both.pixels != written.pixels, "its effect is in the picture"
