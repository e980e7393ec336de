"""Targets with further inputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from harness.reference import relative
from harness.server import WebUI
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.server("others")


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


@pytest.fixture(scope="module")
def inpainting(webui: WebUI, model_files: Path) -> Iterator[None]:
    make_inpainting(model_files, webui.checkpoints)
    webui.post("/sdapi/v1/refresh-checkpoints")
    yield
    webui.txt2img(steps=2)  # alpha again
    for suffix in (".safetensors", ".yaml"):
        (webui.checkpoints / f"inpainting{suffix}").unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
@pytest.mark.usefixtures("inpainting")
def test_inpainting_target(webui: WebUI, sampler: str):
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
