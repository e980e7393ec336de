"""Small random checkpoints of SD1's layout that a WebUI loads like any other.

``alpha``, ``beta``, ``gamma``, ``delta`` have a ``.yaml`` each: swapping makes the WebUI build another model object.
``twin.safetensors`` and ``twin.ckpt`` share one: swapping loads weights into the same object. ``vpred`` predicts v.
All have one VAE and one text encoder, except gamma, which has its own. ``tiny`` is a LoRA for the UNet.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from ditail_ext.standalone.architecture import build_unet, build_vae
from ditail_ext.standalone.text import clip_tokenizer

from .random_weights import randomise

WIDTH = 32
"""Channels of the UNet, as in ``sd1.yaml``."""

CONTEXT = 64
"""Width of the text embeddings, as in ``sd1.yaml``."""

TEXT_CONFIG = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": CONTEXT,
    "intermediate_size": 2 * CONTEXT,
    "projection_dim": CONTEXT,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 1,
    "torch_dtype": "float32",
}

LORA = "tiny"
"""Name of the LoRA, as in ``<lora:tiny:1>``."""


@dataclass(frozen=True)
class Recipe:
    """One file: its yaml, the seeds of its three networks, and what its UNet predicts."""

    file: str
    unet: int
    vae: int = 100
    text: int = 200
    parameterization: str = "eps"

    @property
    def stem(self) -> str:
        return Path(self.file).stem


RECIPES = (
    Recipe("alpha.safetensors", 1),
    Recipe("beta.safetensors", 2),
    Recipe("gamma.safetensors", 3, vae=101, text=201),
    Recipe("delta.safetensors", 4),
    Recipe("twin.safetensors", 5),
    Recipe("twin.ckpt", 6),
    Recipe("vpred.safetensors", 7, parameterization="v"),
)


def make_all(folder: Path) -> Path:
    """Make every file that is not there; gives ``folder/checkpoints``, beside which lies ``folder/Lora``."""
    done = folder / "complete"
    if done.is_file():
        return folder / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    text_folder = _text_folder(folder / "text-encoder")
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir()
    for recipe in RECIPES:
        _make(recipe, checkpoints, text_folder)
    _make_lora(folder / "Lora")
    done.touch()
    return checkpoints


def _text_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    clip_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(TEXT_CONFIG), encoding="utf-8")
    return folder


def config(parameterization: str, text_folder: Path) -> dict[str, Any]:
    """What a checkpoint's ``.yaml`` says."""
    settings = yaml.safe_load((Path(__file__).parent / "sd1.yaml").read_text(encoding="utf-8"))
    params = settings["model"]["params"]
    params["parameterization"] = parameterization
    params["cond_stage_config"]["params"]["version"] = str(text_folder)
    return settings


@torch.no_grad()
def _make(recipe: Recipe, folder: Path, text_folder: Path) -> None:
    settings = config(recipe.parameterization, text_folder)
    params = settings["model"]["params"]
    unet, vae = build_unet(params), build_vae(params)
    text = CLIPTextModel(CLIPTextConfig(**TEXT_CONFIG)).eval()
    randomise(unet, recipe.unet, 0.1)
    randomise(vae, recipe.vae, 0.02)
    randomise(text, recipe.text, 0.3)
    _bring_to_order_one(unet, vae, recipe.text)
    tensors = {f"model.diffusion_model.{name}": value for name, value in unet.state_dict().items()}
    tensors |= {f"first_stage_model.{name}": value for name, value in vae.state_dict().items()}
    tensors |= {f"cond_stage_model.transformer.{name}": value for name, value in text.state_dict().items()}
    tensors |= _schedule(params)
    tensors = {name: value.clone().contiguous() for name, value in tensors.items()}
    (folder / f"{recipe.stem}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    path = folder / recipe.file
    if path.suffix == ".ckpt":
        # The WebUI's check of pickles refuses some members of the newer format.
        torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=False)
    else:
        save_file(tensors, str(path), metadata={"format": "pt"})


def _bring_to_order_one(unet: Any, vae: Any, seed: int) -> None:
    """Latents, pictures and estimated noise of about unit size; the last layers are linear, so this is exact."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(1, 3, 128, 128, generator=generator) * 2 - 1
    latent = torch.randn(1, 4, 16, 16, generator=generator)
    context = torch.randn(1, 77, CONTEXT, generator=generator)
    vae.quant_conv.weight.data[:4] /= vae.encode_mean(picture).std()
    vae.quant_conv.bias.data[:4] = 0
    vae.quant_conv.weight.data[4:] *= 0.1
    vae.quant_conv.bias.data[4:] = -4  # little of the posterior's noise
    vae.decoder.conv_out.weight.data *= 0.5 / vae.decode(latent).std()
    vae.decoder.conv_out.bias.data.zero_()
    size = torch.cat([unet(latent, torch.tensor([t]), context=context) for t in (1, 201, 601, 901)]).std()
    for parameter in unet.out[2].parameters():
        parameter.data *= 0.7 / size


def _schedule(params: dict[str, Any]) -> dict[str, Tensor]:
    """The entries of the noise schedule that checkpoint files carry."""
    start, end = params["linear_start"] ** 0.5, params["linear_end"] ** 0.5
    betas = torch.linspace(start, end, params["timesteps"], dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, dim=0)
    previous = torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])
    entries = {"betas": betas, "alphas_cumprod": alphas, "alphas_cumprod_prev": previous}
    return {name: value.float() for name, value in entries.items()}


def _make_lora(folder: Path) -> None:
    """A LoRA on self-attention's queries and values in the decoder, strong enough to be seen."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(300)
    tensors = {}
    for block in (4, 7, 10):
        for layer in ("to_q", "to_v"):
            name = f"lora_unet_output_blocks_{block}_1_transformer_blocks_0_attn1_{layer}"
            tensors[f"{name}.lora_down.weight"] = torch.randn(2, WIDTH, generator=generator) / WIDTH**0.5
            tensors[f"{name}.lora_up.weight"] = torch.randn(WIDTH, 2, generator=generator)
            tensors[f"{name}.alpha"] = torch.tensor(2.0)
    save_file(tensors, str(folder / f"{LORA}.safetensors"), metadata={"ss_network_dim": "2"})
