"""The extension's latents equal those that the core computes alone from the same files."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.client import SQUARE_CIRCLE, circle
from harness.probe import Probe, Records
from harness.reference import Reference, automatic_path, ddim_path, relative
from harness.server import WebUI

from ditail_ext.settings import Settings

pytestmark = pytest.mark.server("held")

SETTINGS = Settings(enabled=True)


PATHS = {"DDIM": ddim_path, "Euler": automatic_path}


def generate(webui: WebUI, probe: Probe, source: str, **request: object) -> Records:
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    answer = webui.img2img({"source_checkpoint": source}, **SQUARE_CIRCLE, **request)
    assert answer.status == 200, answer.body
    return probe.records()


@pytest.mark.parametrize("sampler", PATHS)
@pytest.mark.parametrize(
    ("source", "target"),
    [("beta.safetensors", "alpha"), ("gamma.safetensors", "alpha"), ("same as target", "alpha"),
     ("vpred.safetensors", "alpha"), ("alpha.safetensors", "vpred")],
)  # fmt: skip
def test_parity(
    webui: WebUI, probe: Probe, model_files: Path, sampler: str, source: str, target: str, record_property
):
    override = {"sd_model_checkpoint": f"{target}.safetensors"}
    records = generate(webui, probe, source, sampler_name=sampler, override_settings=override)
    file = f"{target}.safetensors" if source == "same as target" else source
    reference = Reference(model_files, file, f"{target}.safetensors")
    path = PATHS[sampler](reference)
    trajectory = reference.trajectory(circle(128, 128), path, SETTINGS)
    first = next(call for call in records.calls if call.sampling and call.rows == 2)
    for row in first.x:
        assert relative(row, trajectory.start[0]) < 1e-5
    expected = reference.sample(trajectory, path, SETTINGS, cfg_scale=4.0)
    distance = relative(records.samples[0], expected)
    record_property("relative distance", distance)
    assert distance < 1e-4


def test_a_source_loaded_in_place(webui: WebUI, probe: Probe, model_files: Path):
    """Two checkpoints of one configuration: the host would load the one into the other's object."""
    override = {"sd_model_checkpoint": "twin.ckpt"}
    records = generate(webui, probe, "twin.safetensors", override_settings=override)
    assert records.loads[-2:] == ["twin.ckpt", "twin.safetensors"]
    reference = Reference(model_files, "twin.safetensors", "alpha.safetensors")
    start = reference.trajectory(circle(128, 128), ddim_path(reference), SETTINGS).start
    first = next(call for call in records.calls if call.sampling and call.rows == 2)
    assert first.checkpoint == "twin.ckpt"
    assert relative(first.x[0], start[0]) < 1e-5
    webui.txt2img()


def test_long_inversion_prompts(webui: WebUI, probe: Probe, model_files: Path):
    """Prompts of unequal length are filled up with empty chunks; the picture is the prompt's all the same."""
    probe.reset()
    long = {"source_checkpoint": "beta.safetensors", "inversion_prompt": "a red circle, " * 40}
    assert webui.img2img(long).status == 200
    contexts = {call.context.shape[1] for call in probe.records().calls if not call.sampling}
    assert contexts == {77 * 3}
