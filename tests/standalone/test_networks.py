"""The embedded host's networks are ldm's, its text encoder CLIP's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from safetensors.torch import load_file, save_file

from ditail_ext.core import Level, Prediction
from ditail_ext.errors import CheckpointError
from ditail_ext.settings import Settings
from ditail_ext.standalone.architecture import SD1_CONFIG, build_unet, build_vae
from ditail_ext.standalone.checkpoint import open_checkpoint
from ditail_ext.standalone.job import Job, run
from ditail_ext.standalone.model import Compute, Model
from ditail_ext.standalone.parameters import Sampling
from ditail_ext.standalone.small import TEXT_FOLDER, small_config, write_small_checkpoint, write_text_folder
from ditail_ext.standalone.text import clip_tokenizer

CPU = Compute(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def target(checkpoints: Path) -> Model:
    return Model(open_checkpoint(checkpoints / "target.safetensors"), CPU)


def test_the_unet_computes_what_ldms_does(target: Model) -> None:
    params = small_config()["model"]["params"]["unet_config"]["params"]
    reference = UNetModel(**params).eval()
    reference.load_state_dict(target.unet.state_dict())
    latent, context = torch.randn(2, 4, 16, 8), torch.randn(2, 77, 64)
    timesteps = torch.tensor([1.0, 801.0])
    with torch.no_grad():
        expected = reference(latent, timesteps=timesteps, context=context)
        computed = target.unet(latent, timesteps=timesteps, context=context)
    assert expected.std() > 0.1
    torch.testing.assert_close(computed, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(9, 13), (11, 8), (17, 25)])
def test_the_unet_takes_latents_of_any_size(target: Model, size: tuple[int, int]) -> None:
    with torch.no_grad():
        output = target.unet(torch.randn(1, 4, *size), timesteps=torch.tensor([500.0]), context=torch.randn(1, 77, 64))
    assert output.shape == (1, 4, *size)
    assert output.isfinite().all()


def test_full_size_networks_have_sd15s_parameters() -> None:
    with torch.device("meta"):
        unet, vae = build_unet(SD1_CONFIG), build_vae(SD1_CONFIG)
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert len(unet.state_dict()) == 686
    assert len(vae.state_dict()) == 248


def test_the_picture_is_encoded_without_chance_and_scaled(checkpoints: Path, target: Model) -> None:
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    first, second = target.encode_picture(picture), target.encode_picture(picture)
    assert torch.equal(first, second)
    assert first.shape == (1, 4, 8, 8)
    halved = replace(target.checkpoint, config={**target.checkpoint.config, "scale_factor": 0.5})
    scaled = Model(halved, CPU)
    torch.testing.assert_close(scaled.encode_picture(picture), 0.5 * first)
    torch.testing.assert_close(scaled.decode_picture(0.5 * first), target.decode_picture(first))


def test_v_prediction_is_read_from_the_yaml(tmp_path: Path) -> None:
    write_text_folder(tmp_path / TEXT_FOLDER)
    path = write_small_checkpoint(tmp_path / "v.safetensors", seed=3, parameterization="v")
    model = Model(open_checkpoint(path), CPU)
    assert model.prediction is Prediction.V
    latent, context, level = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 64), Level(601.0, 0.16)
    with torch.no_grad():
        output = model.unet(latent, timesteps=torch.tensor([601.0]), context=context)
    expected = 0.4 * output + 0.84**0.5 * latent
    torch.testing.assert_close(model.predict_noise(latent, level, context), expected)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        ("a photo of an astronaut riding a horse", [320, 1125, 539, 550, 18376, 6765, 320, 4558]),
        ("worst quality, blurry, NSFW", [5719, 3027, 267, 21977, 267, 19847]),
        ("don't, 3d_render 日本", [847, 262, 339, 267, 274, 323, 318, 13024, 37156, 19277, 361]),
    ],
)
def test_the_tokenizer_is_clips(text: str, ids: list[int]) -> None:
    tokenizer = clip_tokenizer()
    assert tokenizer(text).input_ids == [49406, *ids, 49407]
    assert len(tokenizer) == 49408


def test_prompts_have_77_tokens_and_differ(target: Model) -> None:
    empty, red, blue = (target.encode_prompt(text) for text in ("", "a red circle", "a blue circle"))
    assert empty.shape == red.shape == (1, 77, 64)
    assert torch.equal(red[:, :2], blue[:, :2])
    assert not torch.allclose(red[:, 2:], blue[:, 2:], atol=1e-2)
    assert torch.equal(target.encode_prompt("a red circle"), red)
    seventy_five = " ".join(["red"] * 75)
    assert target.encode_prompt(seventy_five).shape == (1, 77, 64)


def test_several_levels_are_recorded_at_once_on_a_gpu_as_its_memory_allows(
    target: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert target.most_rows is None
    on_gpu = Model(target.checkpoint, Compute(torch.device("cuda"), torch.float16)).most_rows
    assert on_gpu is not None
    channels = target.checkpoint.config["unet_config"]["params"]["model_channels"]
    latents = torch.empty(1, 4, 64, 64, device="meta")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda index: 0)
    for rows in (1, 3, 20):
        free = 4 * rows * 128 * 64 * 64 * channels
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index, free=free: (free, 2 * free))
        assert on_gpu(latents) == min(rows, 8)


def test_release_frees_and_the_next_use_loads_again(target: Model) -> None:
    before = target.unet
    picture = torch.rand(1, 3, 64, 64)
    encoded = target.encode_picture(picture)
    target.release()
    assert "unet" not in target.__dict__
    assert target.unet is not before
    assert torch.equal(target.encode_picture(picture), encoded)


def test_text_encoders_under_their_early_names_load(checkpoints: Path, tmp_path: Path, target: Model) -> None:
    tensors = load_file(checkpoints / "target.safetensors")
    early = {name.replace("transformer.text_model.", "transformer."): value for name, value in tensors.items()}
    assert early.keys() != tensors.keys()
    save_file(early, tmp_path / "early.safetensors")
    yaml = (checkpoints / "target.yaml").read_text("utf-8").replace(TEXT_FOLDER, str(checkpoints / TEXT_FOLDER))
    (tmp_path / "early.yaml").write_text(yaml, "utf-8")
    model = Model(open_checkpoint(tmp_path / "early.safetensors"), CPU)
    assert torch.equal(model.encode_prompt("a red circle"), target.encode_prompt("a red circle"))


def test_a_broken_target_is_found_before_the_inversion(
    checkpoints: Path, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_reached(*_: object, **__: object) -> None:
        raise AssertionError("the inversion began")

    monkeypatch.setattr("ditail_ext.standalone.job.invert", not_reached)
    tensors = load_file(checkpoints / "target.safetensors")
    del tensors["first_stage_model.decoder.conv_out.bias"]
    save_file(tensors, tmp_path / "broken.safetensors")
    (tmp_path / "broken.yaml").write_text((checkpoints / "target.yaml").read_text("utf-8"), "utf-8")
    shutil.copytree(checkpoints / TEXT_FOLDER, tmp_path / TEXT_FOLDER)
    source, target = checkpoints / "source.safetensors", tmp_path / "broken.safetensors"
    job = Job(picture, target, source, Sampling("", "", 4, 7.5), Settings())
    with pytest.raises(CheckpointError, match="lacks 1 tensors of the VAE"):
        run(job, CPU)
