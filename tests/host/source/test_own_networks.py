"""A source's own VAE and text encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.client import SQUARE_CIRCLE, circle
from harness.probe import Probe
from harness.reference import Reference, relative
from harness.server import WebUI
from harness.state import unchanged_host
from safetensors.torch import load_file, save_file

from ditail_ext.core import mix
from ditail_ext.standalone.picture import to_tensor

VAE = "first_stage_model."


@pytest.fixture
def gamma_vae(webui: WebUI, model_files: Path) -> Iterator[str]:
    """gamma's VAE as a file of its own."""
    tensors = load_file(model_files / "checkpoints" / "gamma.safetensors")
    path = webui.data / "models" / "VAE" / "gamma-vae.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({name[len(VAE) :]: value for name, value in tensors.items() if name.startswith(VAE)}, path)
    assert webui.post("/sdapi/v1/refresh-vae").status == 200
    yield path.name
    path.unlink()
    webui.post("/sdapi/v1/refresh-vae")


@pytest.mark.parametrize("source", ["beta.safetensors", "same as target"])
def test_source_vae(webui: WebUI, probe: Probe, model_files: Path, gamma_vae: str, source: str):
    with unchanged_host(webui):
        answer = webui.img2img({"source_checkpoint": source, "source_vae": gamma_vae}, **SQUARE_CIRCLE)
        assert answer.status == 200, answer.body
        assert f"Ditail source VAE: {gamma_vae}" in answer.infotext
        encoded = Reference(model_files, "gamma.safetensors", "alpha.safetensors").source.encode_picture(
            to_tensor(circle(128, 128))
        )
        first = next(call for call in probe.records().calls if not call.sampling)
        assert relative(first.x, encoded) < 1e-5


def test_the_condition_is_the_sources(webui: WebUI, probe: Probe, model_files: Path):
    """gamma has a text encoder of its own: the inversion uses it, the record pass the target's empty prompt."""
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    assert webui.img2img({"source_checkpoint": "gamma.safetensors"}).status == 200
    reference = Reference(model_files, "gamma.safetensors", "alpha.safetensors")
    expected = mix(reference.source.encode_prompt("a red circle"), reference.source.encode_prompt("blue"), 3.0, 0.5)
    calls = probe.records().calls
    assert relative(calls[0].context, expected) < 1e-5
