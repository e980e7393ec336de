"""Other VAEs, and targets with other inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from flow_reference import Reference, relative
from flow_state import unchanged_host
from harness.client import circle
from harness.probe import Probe
from harness.server import WebUI
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
        answer = webui.img2img({"source_checkpoint": source, "source_vae": gamma_vae})
        assert answer.status == 200, answer.body
        assert f"Ditail source VAE: {gamma_vae}" in answer.infotext
        encoded = Reference(model_files, "gamma.safetensors", "alpha.safetensors").source.encode_picture(
            to_tensor(circle())
        )
        first = next(call for call in probe.records().calls if not call.sampling)
        assert relative(first.x, encoded) < 1e-5


def make_inpainting(files: Path, folder: Path) -> None:
    """alpha with five more input channels, as inpainting checkpoints have."""
    tensors = load_file(files / "checkpoints" / "alpha.safetensors")
    key = "model.diffusion_model.input_blocks.0.0.weight"
    more = torch.randn(tensors[key].shape[0], 5, 3, 3, generator=torch.Generator().manual_seed(5)) / 7
    tensors[key] = torch.cat([tensors[key], more], dim=1)
    config = yaml.safe_load((files / "checkpoints" / "alpha.yaml").read_text())
    config["model"]["target"] = "ldm.models.diffusion.ddpm.LatentInpaintDiffusion"
    params = config["model"]["params"]
    params |= {"conditioning_key": "hybrid", "finetune_keys": None}
    params["unet_config"]["params"]["in_channels"] = 9
    (folder / "inpainting.yaml").write_text(yaml.safe_dump(config))
    save_file(tensors, folder / "inpainting.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
def test_inpainting_target(start_webui: Callable[..., WebUI], model_files: Path, sampler: str):
    webui = start_webui(
        options={"sd_model_checkpoint": "alpha.safetensors", "samples_save": False, "jpeg_quality": 79}
    )
    make_inpainting(model_files, webui.checkpoints)
    webui.post("/sdapi/v1/refresh-checkpoints")
    request = {"override_settings": {"sd_model_checkpoint": "inpainting.safetensors"}, "sampler_name": sampler}
    webui.probe.reset()
    answer = webui.img2img({"source_checkpoint": "beta.safetensors"}, **request)
    assert answer.status == 200, answer.sentence
    calls = webui.probe.records().calls
    recorded = next(call for call in calls if call.output is None)
    generated = next(call for call in calls if call.sampling and call.output is not None)
    assert recorded.x.shape[1] == generated.x.shape[1] == 9
    assert relative(recorded.x[0], generated.x[0]) < 1e-5
    refused = webui.img2img({"source_checkpoint": "inpainting.safetensors"})
    assert (refused.status, "inpainting" in refused.sentence) == (422, True)


def test_the_condition_is_the_sources(webui: WebUI, probe: Probe, model_files: Path):
    """gamma has a text encoder of its own: the inversion uses it, the record pass the target's empty prompt."""
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    assert webui.img2img({"source_checkpoint": "gamma.safetensors"}).status == 200
    reference = Reference(model_files, "gamma.safetensors", "alpha.safetensors")
    expected = mix(reference.source.encode_prompt("a red circle"), reference.source.encode_prompt("blue"), 3.0, 0.5)
    calls = probe.records().calls
    assert relative(calls[0].context, expected) < 1e-5
