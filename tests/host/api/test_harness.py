"""The harness itself: an ordinary request, seen from both sides."""

from __future__ import annotations

import pytest
from harness.probe import Probe
from harness.server import WebUI

EXPECTED = {"alpha", "beta", "gamma", "delta", "twin", "vpred"}


def test_the_server_knows_our_checkpoints(webui: WebUI):
    names = {model["model_name"] for model in webui.get("/sdapi/v1/sd-models").body}
    assert names >= EXPECTED


def test_an_ordinary_request_is_recorded_and_repeats(webui: WebUI, probe: Probe):
    first = webui.txt2img()
    assert first.status == 200, first.body
    records = probe.records()
    assert [call.rows for call in records.calls] == [2] * len(records.calls)
    assert len(records.samples) == 1
    assert all(call.sampling and call.checkpoint == "alpha.safetensors" for call in records.calls)
    assert records.calls[0].context.shape[1:] == (77, 64)
    assert webui.txt2img().pixels == first.pixels


def test_the_state_stays_as_it_was(webui: WebUI, probe: Probe):
    assert webui.img2img().status == 200
    before = probe.state()
    assert webui.img2img().status == 200
    assert probe.state() == before


def test_a_throw_in_the_unet_fails_the_request_and_only_it(webui: WebUI, probe: Probe):
    before = webui.txt2img().pixels
    probe.reset(throw_at=3)
    failed = webui.txt2img()
    assert (failed.status, "thrown by the probe" in failed.sentence) == (500, True)
    assert len(probe.records().calls) == 3
    assert webui.txt2img().pixels == before


def test_a_stop_ends_sampling_at_that_call(webui: WebUI, probe: Probe):
    probe.reset(stop_at=2)
    assert webui.txt2img().status == 200
    assert len(probe.records().calls) == 2


@pytest.mark.parametrize("name", ["beta.safetensors", "twin.safetensors", "twin.ckpt", "vpred.safetensors"])
def test_every_checkpoint_loads(webui: WebUI, probe: Probe, name: str):
    answer = webui.txt2img(override_settings={"sd_model_checkpoint": name})
    assert answer.status == 200, answer.body
    assert probe.records().loads[-1] == name


def test_the_lora_changes_the_picture(webui: WebUI, probe: Probe):
    plain = webui.txt2img()
    with_lora = webui.txt2img(prompt="a red circle <lora:tiny:1>")
    assert probe.state()["loras"] == ["tiny"]
    assert plain.pixels != with_lora.pixels
