"""Every shape of request: batches, prompts, guidance, sizes."""

from __future__ import annotations

from typing import Any

import pytest
from harness.client import SQUARE, circle, encode
from harness.probe import Probe, Records
from harness.reference import relative
from harness.server import WebUI
from harness.state import options

pytestmark = pytest.mark.server("held")

BETA = {"source_checkpoint": "beta.safetensors"}
LONG = "a red circle on grey, " * 30


def generate(webui: WebUI, probe: Probe, ditail: dict[str, Any] | None = None, **request: Any) -> Records:
    probe.reset()
    answer = webui.img2img(BETA if ditail is None else ditail, **request)
    assert answer.status == 200, answer.body
    return probe.records()


@pytest.mark.parametrize("sampler", ["DDIM", "Euler", "Euler a", "DPM++ 2M SDE"])
def test_each_image_of_a_batch_is_as_alone(webui: WebUI, probe: Probe, sampler: str):
    batches = generate(webui, probe, batch_size=3, n_iter=2, sampler_name=sampler, **SQUARE)
    images = [image for batch in batches.samples for image in batch]
    for index in range(6):
        alone = generate(webui, probe, seed=7 + index, sampler_name=sampler, **SQUARE)
        assert relative(images[index], alone.samples[0][0]) < 1e-4
    assert all(call.rows == 1 for call in batches.calls if call.output is None)


def first_input(records: Records) -> Any:
    """What the UNet got at the first call that generated something."""
    return next(call.x for call in records.calls if call.sampling and call.output is not None)


SHAPES: dict[str, dict[str, Any]] = {
    "cfg 1": {"cfg_scale": 1},
    "long prompt": {"prompt": LONG},
    "long negative prompt": {"negative_prompt": LONG},
    "AND": {"prompt": "a red circle AND a blue square :0.5 AND grey"},
    "prompt editing": {"prompt": "a [red:green:0.5] [circle|square]"},
    "clip skip": {"options": {"CLIP_stop_at_last_layers": 2}},
    "separate calls": {"options": {"batch_cond_uncond": False}},
    "separate calls and AND": {
        "options": {"batch_cond_uncond": False},
        "prompt": "a AND b",
        "batch_size": 2,
    },
    "padded": {"prompt": LONG, "options": {"pad_cond_uncond": True}},
    "skipped uncond": {"s_min_uncond": 4, "sampler_name": "Euler", "steps": 10},
    "early uncond skipped": {"options": {"skip_early_cond": 0.5}},
    "not a multiple of 64": {"width": 136, "height": 200},
    "not a multiple of 8": {"width": 131, "height": 125},
    "tiling": {"tiling": True},
    "latent resize": {"resize_mode": 3, "width": 192, "height": 128},
    "crop": {"resize_mode": 1, "width": 192, "height": 128},
    "fill": {"resize_mode": 2, "width": 192, "height": 128},
    "fixed steps": {"options": {"img2img_fix_steps": True}, "sampler_name": "Euler"},
    "fixed steps, timesteps": {"options": {"img2img_fix_steps": True}},
    "zero terminal SNR": {"options": {"sd_noise_schedule": "Zero Terminal SNR"}},
    "downcast": {"options": {"use_downcasted_alpha_bar": True}, "sampler_name": "Euler"},
    "quantised": {"options": {"enable_quantization": True}, "sampler_name": "Euler"},
    "extra noise": {"options": {"img2img_extra_noise": 0.1}},
    "noise multiplier": {"initial_noise_multiplier": 0.7},
    "full strength": {"denoising_strength": 1.0},
    "eta": {"eta": 1.0},
    "churn": {"s_churn": 5.0, "sampler_name": "Euler"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shape(webui: WebUI, probe: Probe, shape: str):
    """It runs, every row that is generated is injected, and the start is the inverted latent."""
    request = dict(SHAPES[shape])
    everywhere, nowhere = ({**BETA, "feature_ratio": ratio, "attention_ratio": ratio} for ratio in (1.0, 0.0))
    webui.post("/ditail/v1/cache/clear")
    with options(webui, request.pop("options", {})):
        injected, plain, again = (
            generate(webui, probe, ditail, **request) for ditail in (everywhere, nowhere, everywhere)
        )
    assert again.switches == []
    assert relative(again.samples[0], injected.samples[0]) < 1e-5  # the swap left nothing behind
    starts = [
        next(call.x for call in found.calls if call.sampling and call.output is not None)
        for found in (injected, plain)
    ]
    assert relative(starts[0], starts[1]) < 1e-6
    assert relative(injected.samples[0], plain.samples[0]) > 0.02
    assert sum(call.output is None for call in injected.calls) > 0
    assert all(call.output is not None for call in plain.calls)


def test_several_pictures_in_one_batch(webui: WebUI, probe: Probe):
    pictures = [encode(circle()), encode(circle(colour=(20, 200, 60)))]
    both = generate(webui, probe, init_images=pictures, batch_size=2, **SQUARE)
    for index, picture in enumerate(pictures):
        alone = generate(webui, probe, init_images=[picture], seed=7 + index, **SQUARE)
        assert relative(both.samples[0][index], alone.samples[0][0]) < 1e-4


def test_the_second_generation_swaps_and_inverts_nothing(webui: WebUI, probe: Probe):
    webui.post("/ditail/v1/cache/clear")
    first = generate(webui, probe)
    assert first.source_ran
    second = generate(webui, probe, seed=8)
    assert second.switches == []
    assert not second.source_ran
    for change in (
        {"positive_scale": 2.0},
        {"inversion_prompt": "x"},
        {"refinements": 1},
        {"inversion_rule": "warm start"},
    ):
        assert generate(webui, probe, {**BETA, **change}).source_ran
    assert generate(webui, probe, denoising_strength=0.5).source_ran
    assert not generate(webui, probe, {**BETA, "attention_ratio": 0.1}).source_ran
