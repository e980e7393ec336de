"""SDXL in a real WebUI: sgm's UNet, two text encoders, a vector of sizes; narrow checkpoints with random weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from harness.client import circle, encode
from harness.families import generate, made_by, recorded, same_rows
from harness.probe import Call, Records
from harness.reference import relative
from harness.server import WebUI
from harness.state import options, unchanged_host
from PIL import Image

pytestmark = pytest.mark.server("others")

BETA = {"source_checkpoint": "xl-beta.safetensors"}
NOWHERE = {**BETA, "feature_ratio": 0.0, "attention_ratio": 0.0}
FEATURE = "output_blocks.0.0.out_layers"
"""What holds the layer whose output is replaced: it gives on what injection makes of it."""
SAMPLERS = ("DDIM", "Euler", "DPM++ 2M")


@pytest.fixture(scope="module")
def sdxl(other_families: WebUI) -> Iterator[WebUI]:
    """With xl-alpha loaded."""
    with options(other_families, {"sd_model_checkpoint": "xl-alpha.safetensors"}):
        yield other_families


def inverting(records: Records) -> list[Call]:
    return made_by(records, BETA["source_checkpoint"])


def conditions_of(webui: WebUI, checkpoint: str, **request: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Contexts and vectors of the positive and the negative row that a checkpoint's own generation gives its UNet."""
    override = {"sd_model_checkpoint": checkpoint}
    call = generate(webui, None, txt2img=True, steps=2, override_settings=override, **request).calls[0]
    assert call.context is not None
    assert call.vector is not None
    order = (0, 1) if webui.host == "webui" else (1, 0)  # hosts with model patchers put the negative row first
    return [call.context[row] for row in order], [call.vector[row] for row in order]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_it_inverts_records_and_injects(sdxl: WebUI, sampler: str):
    """Another picture than without injection; a second one needs no load, no inversion and no record pass."""
    request = {"sampler_name": sampler, "denoising_strength": 1.0}
    with unchanged_host(sdxl):
        first = generate(sdxl, BETA, **request)
        second = generate(sdxl, BETA, seed=8, cfg_scale=5, **request)
        plain = generate(sdxl, NOWHERE, **request)
    assert first.loads == ["xl-beta.safetensors"]
    assert len(inverting(first)) > len(recorded(first)) > 0
    on_the_way = inverting(first)[: -len(recorded(first)) : -1]  # the last one was given the level below the start
    for own, inverted in zip(recorded(first)[1:], on_the_way, strict=True):
        assert relative(own.x, inverted.x) < 1e-5
    assert (second.loads, inverting(second), recorded(second)) == ([], [], [])
    assert second.rows == plain.rows
    assert np.isfinite(first.samples[0]).all()
    assert relative(first.samples[0], plain.samples[0]) > 0.02


def test_the_inversions_condition_is_alpha_positive_less_beta_negative(sdxl: WebUI):
    """Of the context; the vector is the positive prompt's as it stands."""
    (positive, negative), (vector, _) = conditions_of(sdxl, "xl-beta.safetensors")
    generate(sdxl, None, txt2img=True, steps=2)
    sdxl.post("/ditail/v1/cache/clear")
    calls = inverting(generate(sdxl, {**BETA, "positive_scale": 2.0, "negative_scale": 0.25}))
    assert len(calls) > 1
    for call in calls:
        assert relative(call.context, (2.0 * positive - 0.25 * negative)[None]) < 1e-5
        assert relative(call.vector, vector[None]) < 1e-6


def test_the_source_row_has_the_empty_negative_prompts_condition(sdxl: WebUI):
    """Which the WebUI takes as zeros for SDXL."""
    (_, empty), (_, vector) = conditions_of(sdxl, "xl-alpha.safetensors", negative_prompt="")
    assert not empty.any()
    passes = recorded(generate(sdxl, BETA))
    assert passes
    for call in passes:
        assert np.array_equal(call.context, empty[None])
        assert np.array_equal(call.vector, vector[None])


def test_the_injected_layer_gives_on_the_sources_values_in_every_row(sdxl: WebUI):
    sdxl.post("/ditail/v1/cache/clear")
    own = generate(sdxl, NOWHERE, watch=FEATURE).watched[-1]  # from now on the trajectory is kept, but no features
    watched = generate(sdxl, BETA, watch=FEATURE).watched
    source, given = (next(output for output in watched if len(output) == rows) for rows in (1, 2))
    assert all(np.array_equal(row, source[0]) for row in given)
    assert relative(own, given) > 0.05


@pytest.mark.parametrize("kind", ["feature", "attention"])
def test_each_kind_of_injection_changes_the_picture(sdxl: WebUI, kind: str):
    plain, injected = (generate(sdxl, {**NOWHERE, f"{kind}_ratio": ratio}).samples[0] for ratio in (0.0, 1.0))
    assert relative(injected, plain) > 0.01


def test_a_target_between_two_is_put_back(sdxl: WebUI):
    between = {**BETA, "mix_checkpoint": "xl-beta.safetensors", "mix_weight": 0.5}
    with unchanged_host(sdxl):
        mixed, own = (generate(sdxl, ditail).samples[0] for ditail in (between, BETA))
    assert relative(mixed, own) > 0.02


def test_each_layer_profile_makes_a_picture_of_its_own(sdxl: WebUI):
    everywhere = {**BETA, "feature_ratio": 1.0, "attention_ratio": 1.0}
    made = [generate(sdxl, {**everywhere, "layer_profile": name}).samples[0] for name in ("default", "strong", "full")]
    assert all(relative(one, other) > 0.01 for one, other in itertools.combinations(made, 2))


def test_outside_a_region_the_injected_layer_is_its_own(sdxl: WebUI):
    """A mask over the left half, with pictures that are not square."""
    picture = encode(circle().resize((192, 128)))
    wide = {"width": 192, "height": 128, "init_images": [picture], "watch": FEATURE}
    mask = Image.new("L", (192, 128))
    mask.paste(255, (0, 0, 96, 128))
    half = {**BETA, "mask": encode(mask), "region_blur": 0}
    generate(sdxl, NOWHERE, **wide)  # from now on the trajectory is kept, but no features
    own = generate(sdxl, NOWHERE, **wide).watched[0]
    watched = generate(sdxl, half, **wide).watched
    source, given = (next(output for output in watched if len(output) == rows) for rows in (1, 2))
    middle = own.shape[-1] // 2
    assert np.array_equal(given[..., middle:], own[..., middle:])
    assert all(np.array_equal(row[..., :middle], source[0][..., :middle]) for row in given)


def test_a_generated_source_bit_for_bit_and_several_steps_in_one_call(sdxl: WebUI):
    everywhere = {**BETA, "feature_ratio": 1.0, "attention_ratio": 1.0}
    alone = generate(sdxl, None, txt2img=True, override_settings={"sd_model_checkpoint": "xl-beta.safetensors"})
    generate(sdxl, None, txt2img=True, steps=2)
    one = generate(sdxl, everywhere, txt2img=True)
    assert [call.x.tobytes() for call in inverting(one)] == [call.x.tobytes() for call in alone.calls]
    rows = [row for call in recorded(one) for row in call.x]
    assert same_rows(sdxl, rows, [call.x[0] for call in alone.calls])
    with options(sdxl, {"ditail_record_rows": 32}):
        sdxl.post("/ditail/v1/cache/clear")
        together = generate(sdxl, everywhere, txt2img=True)
    (call,) = recorded(together)
    assert [row.tobytes() for row in call.x] == [row.tobytes() for row in rows]
    assert relative(together.samples[0], one.samples[0]) < 1e-5


@pytest.mark.parametrize(
    ("target", "source"), [("xl-alpha", "alpha"), ("alpha", "xl-beta")], ids=["SD1 for SDXL", "SDXL for SD1"]
)
def test_a_source_of_another_family_is_refused(sdxl: WebUI, target: str, source: str):
    override = {"sd_model_checkpoint": f"{target}.safetensors"}
    sdxl.probe.reset()
    answer = sdxl.img2img({"source_checkpoint": f"{source}.safetensors"}, override_settings=override)
    assert answer.status == 422
    assert "SDXL" in answer.sentence
    assert source in answer.sentence
    assert sdxl.probe.records().calls == []
    generate(sdxl, None, txt2img=True, steps=2)
