"""SD2 in a real WebUI: v-prediction, linear projections, heads by width, open_clip's text encoder; random weights."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from harness.families import generate, made_by, recorded, same_rows
from harness.probe import Call, Records
from harness.reference import relative
from harness.server import WebUI
from harness.state import options, unchanged_host

from ditail_ext.core import NoiseSchedule, Prediction, move, to_epsilon

pytestmark = pytest.mark.server("others")

BETA = {"source_checkpoint": "sd2-beta.safetensors"}
NOWHERE = {**BETA, "feature_ratio": 0.0, "attention_ratio": 0.0}
FEATURE = "output_blocks.4.0.out_layers"


@pytest.fixture(scope="module")
def sd2(other_families: WebUI) -> Iterator[WebUI]:
    """With sd2-alpha loaded."""
    with options(other_families, {"sd_model_checkpoint": "sd2-alpha.safetensors"}):
        yield other_families


def inverting(records: Records) -> list[Call]:
    return made_by(records, BETA["source_checkpoint"])


@pytest.mark.parametrize("sampler", ["DDIM", "Euler", "DPM++ 2M"])
def test_it_inverts_records_and_injects(sd2: WebUI, sampler: str):
    request = {"sampler_name": sampler, "denoising_strength": 1.0}
    with unchanged_host(sd2):
        first = generate(sd2, BETA, **request)
        second = generate(sd2, BETA, seed=8, cfg_scale=5, **request)
        plain = generate(sd2, NOWHERE, **request)
    assert first.loads == ["sd2-beta.safetensors"]
    assert len(inverting(first)) > len(recorded(first)) > 0
    assert (second.loads, inverting(second), recorded(second)) == ([], [], [])
    assert second.rows == plain.rows
    assert np.isfinite(first.samples[0]).all()
    assert relative(first.samples[0], plain.samples[0]) > 0.02


def test_the_inversion_takes_the_unets_output_for_v(sd2: WebUI):
    """Every latent of the trajectory follows from the one before and what the UNet said of it."""
    sd2.post("/ditail/v1/cache/clear")
    calls = inverting(generate(sd2, BETA, steps=8, denoising_strength=1.0))
    schedule = NoiseSchedule.stable_diffusion()
    assert len(calls) > 4
    for (before, now), following in zip(pairwise(calls), calls[2:], strict=False):
        held, told = (schedule.at_timestep(float(call.timesteps[0])) for call in (before, now))
        latent, output = torch.from_numpy(now.x), torch.from_numpy(now.output)
        expected = move(latent, held, told, to_epsilon(Prediction.V, output, latent, told))
        wrong = move(latent, held, told, output)
        assert relative(following.x, expected) < 1e-5
        assert relative(following.x, wrong) > 1e-2


def test_the_injected_layer_gives_on_the_sources_values_in_every_row(sd2: WebUI):
    sd2.post("/ditail/v1/cache/clear")
    own = generate(sd2, NOWHERE, watch=FEATURE).watched[-1]  # from now on the trajectory is kept, but no features
    watched = generate(sd2, BETA, watch=FEATURE).watched
    source, given = (next(output for output in watched if len(output) == rows) for rows in (1, 2))
    assert all(np.array_equal(row, source[0]) for row in given)
    assert relative(own, given) > 0.05


def test_a_generated_source_bit_for_bit(sd2: WebUI):
    everywhere = {**BETA, "feature_ratio": 1.0, "attention_ratio": 1.0}
    alone = generate(sd2, None, txt2img=True, override_settings={"sd_model_checkpoint": "sd2-beta.safetensors"})
    generate(sd2, None, txt2img=True, steps=2)
    records = generate(sd2, everywhere, txt2img=True)
    assert [call.x.tobytes() for call in inverting(records)] == [call.x.tobytes() for call in alone.calls]
    rows = [row for call in recorded(records) for row in call.x]
    assert same_rows(sd2, rows, [call.x[0] for call in alone.calls])


def test_a_source_with_another_prediction_of_noise_may_be_used(sd2: WebUI):
    """SD1 and SD2 share their latents: what the source's UNet predicts is its own affair."""
    sd2.post("/ditail/v1/cache/clear")
    made = generate(sd2, {"source_checkpoint": "alpha.safetensors"}, denoising_strength=1.0)
    assert any(call.checkpoint == "alpha.safetensors" for call in made.calls)
    assert np.isfinite(made.samples[0]).all()
