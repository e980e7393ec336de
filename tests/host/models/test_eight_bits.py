"""Weights of 8 bits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from harness.mixes import ALPHA, BETA, DELTA, PROMPT, TAG, UNET, mixed, plain, put, sample
from harness.reference import relative
from harness.server import WebUI
from harness.state import options, unchanged_host
from safetensors.torch import load_file

pytestmark = pytest.mark.server("others")

HALF = "half.safetensors"


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "beside 16 bits"])
def eight_bits(webui: WebUI, request: pytest.FixtureRequest) -> Iterator[WebUI]:
    """The option is on, with or without copies in half precision beside them, to merge LoRAs into."""
    # In half precision: after the first one, the host rounds what it does not keep in 8 bits to that when it loads.
    tensors = load_file(webui.checkpoints / DELTA)
    put(webui, HALF, {key: value.half() if key.startswith(UNET) else value for key, value in tensors.items()})
    with options(webui, {"fp8_storage": "Enable", "cache_fp16_weight": request.param}):
        yield webui
    for name in (BETA, ALPHA):  # the model object that the option was switched off in stays in half precision
        plain(webui, target=name)
    (webui.checkpoints / HALF).unlink()
    (webui.checkpoints / HALF).with_suffix(".yaml").unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


@pytest.mark.parametrize(
    "prompt", [pytest.param(PROMPT, id="plain", marks=pytest.mark.slow), pytest.param(f"{PROMPT} {TAG}", id="LoRA")]
)
def test_a_mix(eight_bits: WebUI, prompt: str):
    webui, probe = eight_bits, eight_bits.probe
    told = {"inversion_prompt": PROMPT}
    expected, own = (
        sample(webui, probe, {"source_checkpoint": BETA, **told}, prompt=prompt, target=name) for name in (HALF, ALPHA)
    )
    with unchanged_host(webui):
        before = plain(webui, prompt)
        found = sample(webui, probe, mixed(1.0, HALF, **told), prompt=prompt)
        assert torch.equal(found, expected)
        halfway = sample(webui, probe, mixed(0.5, HALF, **told), prompt=prompt)
        assert all(relative(halfway, end) > 0.1 for end in (expected, own))
        assert plain(webui, prompt) == before
        plain(webui)
