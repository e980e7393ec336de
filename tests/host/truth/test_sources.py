"""Sources of every format are looked at, and so are networks: a picture by half a checkpoint is never made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from harness.client import Answer
from harness.probe import Probe
from harness.server import WebUI
from harness.state import unchanged_host
from safetensors.torch import load_file, save_file

SMALL = {"width": 128, "height": 64, "steps": 4}

VAE = "first_stage_model."

Weights = dict[str, torch.Tensor]


def without(*parts: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value for name, value in weights.items() if not name.startswith(parts)}


def inpainting(weights: Weights) -> Weights:
    name = "model.diffusion_model.input_blocks.0.0.weight"
    wider = torch.cat([weights[name], torch.zeros_like(weights[name]), weights[name][:, :1]], dim=1)
    return {**weights, name: wider}


KINDS: dict[str, Callable[[Weights], Weights]] = {
    "a LoRA": lambda weights: {"lora_unet_out.lora_up.weight": torch.ones(4, 4)},
    "a VAE alone": without("model.", "cond_stage_model."),
    "no VAE": without("first_stage_model."),
    "no text encoder": without("cond_stage_model."),
    "inpainting": inpainting,
}

SAYS = {
    "a LoRA": "holds no Stable Diffusion UNet",
    "a VAE alone": "holds no Stable Diffusion UNet",
    "no VAE": "has no VAE of its own; choose a source VAE.",
    "no text encoder": "has no text encoder",
    "inpainting": "takes 9 channels",
}


@pytest.fixture
def pickled(webui: WebUI, model_files: Path) -> Iterator[Callable[[str], str]]:
    """Makes a ``.ckpt`` of a kind."""
    path = webui.checkpoints / "odd.ckpt"

    def make(kind: str) -> str:
        kinds = {**KINDS, "whole": lambda weights: weights}
        folder = model_files / "checkpoints"
        tensors = kinds[kind](load_file(folder / "beta.safetensors"))
        # The WebUI's check of pickles refuses some members of the newer format, whatever they hold.
        torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=False)
        shutil.copyfile(folder / "beta.yaml", path.with_suffix(".yaml"))
        webui.post("/sdapi/v1/refresh-checkpoints")
        return path.name

    yield make
    path.unlink()
    path.with_suffix(".yaml").unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


def refused(answer: Answer, label: str) -> None:
    assert answer.status == 422, answer.body
    assert answer.sentence.startswith(f"Ditail: {label}: ")
    assert answer.sentence.endswith(".")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_source(webui: WebUI, pickled: Callable[[str], str], kind: str):
    """For what it is, and not for how it is packed."""
    name = pickled(kind)
    with unchanged_host(webui):
        for _ in range(2):
            answer = webui.img2img({"source_checkpoint": name}, **SMALL)
            refused(answer, "Source VAE" if kind == "no VAE" else "Source checkpoint")
            assert SAYS[kind] in answer.sentence


def test_a_whole_pickled_source(webui: WebUI, pickled: Callable[[str], str]):
    expected = webui.img2img({"source_checkpoint": "beta.safetensors"}, **SMALL).pixels
    answer = webui.img2img({"source_checkpoint": pickled("whole")}, **SMALL)
    assert answer.status == 200, answer.body
    assert answer.pixels == expected


@pytest.fixture
def chosen_vae(webui: WebUI, model_files: Path) -> Iterator[str]:
    """The VAE of all these checkpoints as a file of its own."""
    tensors = load_file(model_files / "checkpoints" / "beta.safetensors")
    path = webui.data / "models" / "VAE" / "chosen.vae.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({name[len(VAE) :]: value for name, value in tensors.items() if name.startswith(VAE)}, path)
    assert webui.post("/sdapi/v1/refresh-vae").status == 200
    yield path.name
    path.unlink()
    webui.post("/sdapi/v1/refresh-vae")


def test_a_pickled_source_without_vae_works_with_a_chosen_one(
    webui: WebUI, probe: Probe, pickled: Callable[[str], str], chosen_vae: str
):
    """The picture is the whole checkpoint's, and the second one needs no load."""
    expected = webui.img2img({"source_checkpoint": "beta.safetensors"}, **SMALL).pixels
    name = pickled("no VAE")
    chosen = {"source_checkpoint": name, "source_vae": chosen_vae}
    with unchanged_host(webui):
        probe.reset()
        first = webui.img2img(chosen, **SMALL)
        assert first.status == 200, first.body
        assert first.pixels == expected
        probe.reset()
        assert webui.img2img({**chosen, "positive_scale": 2.0}, **SMALL).status == 200
        assert probe.records().loads == []
        refused(webui.img2img({"source_checkpoint": name}, **SMALL), "Source VAE")


@pytest.mark.parametrize(
    "tag", ["<lora:tiny:0,5>", "<lora:tiny:abc>", "<lora:tiny:1:1:x>", "<lora:nobody:1>", "<weather:fine:1>"]
)
def test_networks_that_the_host_would_half_understand(webui: WebUI, probe: Probe, tag: str):
    answer = webui.img2img({"source_checkpoint": "beta.safetensors", "inversion_prompt": f"a disc {tag}"}, **SMALL)
    refused(answer, "Inversion prompt")
    assert not [call for call in probe.records().calls if call.sampling]


def test_a_damaged_lora(webui: WebUI):
    path = webui.loras / "broken.safetensors"
    path.write_bytes(b"\xff" * 4096)
    try:
        webui.post("/sdapi/v1/refresh-loras")
        prompt = "a disc <lora:broken:1>"
        refused(
            webui.img2img({"source_checkpoint": "beta.safetensors", "inversion_prompt": prompt}, **SMALL),
            "Inversion prompt",
        )
    finally:
        path.unlink()
        webui.post("/sdapi/v1/refresh-loras")
