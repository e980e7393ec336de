"""Before, after and beside Ditail's pass the target computes unmixed, however the request goes on or ends."""

from __future__ import annotations

from typing import Any

import pytest
from harness.mixes import ALPHA, DELTA, PLAIN, PROMPT, TAG, Networks, ask, mixed, plain
from harness.probe import Probe
from harness.server import WebUI
from harness.state import unchanged_host


def test_a_source_that_is_the_target_inverts_unmixed(webui: WebUI, probe: Probe):
    _, records = ask(webui, probe, mixed(1.0, source_checkpoint="same as target", **PLAIN))
    assert Networks(webui.checkpoints, ALPHA, DELTA).in_order(records.calls) == [ALPHA, DELTA]


def test_hires_fix_goes_on_unmixed(webui: WebUI, probe: Probe):
    request = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.6}
    with unchanged_host(webui):
        _, records = ask(webui, probe, mixed(1.0, **PLAIN), route="txt2img", **request)
        calls = [call for call in records.calls if call.sampling]
        assert Networks(webui.checkpoints, ALPHA, DELTA).in_order(calls) == [DELTA, ALPHA]
        assert {call.x.shape[-1] for call in calls} == {16, 24}


@pytest.mark.parametrize("prompt", [PROMPT, f"{PROMPT} {TAG}"], ids=["plain", "LoRA"])
def test_the_mix_ends_before_a_refiner_is_loaded_into_the_same_unet(webui: WebUI, probe: Probe, prompt: str):
    target, refiner = "twin.safetensors", "twin.ckpt"
    request = {"refiner_checkpoint": refiner, "refiner_switch_at": 0.6, "steps": 10, "denoising_strength": 0.9}
    expected = plain(webui, target=target), plain(webui, target=refiner)
    _, records = ask(webui, probe, mixed(1.0, ALPHA, **PLAIN), target=target, prompt=prompt, **request)
    if prompt == PROMPT:
        calls = [call for call in records.calls if call.sampling]
        networks = Networks(webui.checkpoints, ALPHA, target, refiner)
        assert networks.in_order(calls) == [ALPHA, refiner]
    assert plain(webui, target=refiner) == expected[1]  # it is still loaded: nothing was put back into it
    assert plain(webui, target=target) == expected[0]


@pytest.mark.parametrize("prompt", [PROMPT, f"{PROMPT} {TAG}"], ids=["plain", "LoRA"])
@pytest.mark.parametrize("end", [{"throw_at": 6}, {"throw_at": 6, "throw": "OutOfMemoryError"}, {"stop_at": 6}, {}])
def test_it_comes_back_however_the_request_ends(webui: WebUI, probe: Probe, prompt: str, end: dict[str, Any]):
    with unchanged_host(webui):
        plain(webui, prompt)
        probe.reset(**end)
        answer = webui.img2img(mixed(0.3, source_checkpoint="same as target"), prompt=prompt, batch_size=2)
        assert (answer.status == 200) == ("throw_at" not in end), answer.body
        plain(webui)  # the host takes the LoRA out only when it computes without it
