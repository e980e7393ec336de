"""Small random checkpoints of SD1's layout, for tests and for trying things out where no real ones are.

All 12 input and 12 output blocks are there, with attention where SD1 has it, in few channels (ldm's GroupNorm has
32 groups, so 64 is the least that is no instance normalisation). Weights are random: pictures show nothing, but
every number is finite and of order one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from .architecture import SD1_CONFIG, build_unet, build_vae
from .checkpoint import TEXT, UNET, VAE
from .text import clip_tokenizer

TEXT_FOLDER = "text-encoder"
"""Beside the checkpoints: the tokenizer's files and the text model's ``config.json``, which the WebUI wants."""

_WIDTH = 64
_TEXT_CONFIG = {
    "vocab_size": 49408,
    "hidden_size": _WIDTH,
    "intermediate_size": 4 * _WIDTH,
    "projection_dim": _WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "pad_token_id": 1,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
_MEAN_ONLY = -8.0  # log-variance of the posterior


def small_config(text_folder: str = TEXT_FOLDER, parameterization: str = "eps") -> dict[str, Any]:
    """The checkpoint's ``.yaml``; ``text_folder`` is relative to it for the embedded host, absolute for the WebUI."""
    params: dict[str, Any] = copy.deepcopy(dict(SD1_CONFIG))
    params |= {"parameterization": parameterization, "scale_factor": 1.0, "timesteps": 1000, "channels": 4}
    params |= {"conditioning_key": "crossattn", "cond_stage_key": "txt", "first_stage_key": "jpg", "use_ema": False}
    params["unet_config"]["target"] = "ldm.modules.diffusionmodules.openaimodel.UNetModel"
    params["unet_config"]["params"] |= {
        "model_channels": _WIDTH,
        "channel_mult": [1, 1, 1, 1],
        "num_heads": 4,
        "context_dim": _WIDTH,
    }
    first_stage = params["first_stage_config"]
    first_stage["target"] = "ldm.models.autoencoder.AutoencoderKL"
    first_stage["params"]["lossconfig"] = {"target": "torch.nn.Identity"}
    first_stage["params"]["ddconfig"] |= {"ch": _WIDTH, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    params["cond_stage_config"] = {
        "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
        "params": {"version": text_folder, "device": "cpu"},
    }
    return {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}


def write_text_folder(folder: Path) -> Path:
    """Write the tokenizer's files and the text model's configuration; returns the folder."""
    clip_tokenizer().save_pretrained(folder)
    CLIPTextConfig(**_TEXT_CONFIG).save_pretrained(folder)
    return folder


def write_small_checkpoint(
    path: Path,
    seed: int,
    *,
    text_folder: str = TEXT_FOLDER,
    parameterization: str = "eps",
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write a checkpoint and its ``.yaml``; the UNet depends on ``seed``, VAE and text encoder do not."""
    config = small_config(text_folder, parameterization)
    params = config["model"]["params"]
    unet, vae = build_unet(params), build_vae(params)
    text = CLIPTextModel(CLIPTextConfig(**_TEXT_CONFIG)).eval()
    _randomise(unet, seed)
    _randomise(vae, 1000)
    # The WebUI divides by the embeddings' mean: biases away from zero keep it there, too.
    _randomise(text, 2000, bias=0.3)
    _scale_outputs(unet, vae)
    parts = ((UNET, unet), (VAE, vae), (TEXT, text))
    tensors = {
        f"{prefix}{name}": value.to(dtype if value.is_floating_point() else value.dtype).contiguous()
        for prefix, module in parts
        for name, value in module.state_dict().items()
    }
    path.with_suffix(".yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8")
    save_file(tensors, path, metadata={"format": "pt", "ditail_small": json.dumps({"seed": seed})})
    return path


@torch.no_grad()
def _randomise(module: nn.Module, seed: int, bias: float = 0.05) -> None:
    """Every parameter from its fan-in; nothing zero (ldm starts its last layers at zero)."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2:
            fan_in = 4 if "embedding" in name else parameter[0].numel()
            parameter.copy_(noise / fan_in**0.5)
        elif name.endswith("weight"):
            parameter.copy_(1.0 + 0.1 * noise)
        else:
            parameter.copy_(bias * (noise + 1.0))


@torch.no_grad()
def _scale_outputs(unet: nn.Module, vae: Any) -> None:
    """Bring the outputs to order one; the last layers are linear, so dividing their weights does it."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    latent = torch.randn(2, 4, 8, 8, generator=generator)
    _normalise(vae.quant_conv, lambda: vae.encode_mean(picture), 1.0)
    vae.quant_conv.weight[4:] *= 0.01
    vae.quant_conv.bias[4:] = _MEAN_ONLY
    _normalise(vae.decoder.conv_out, lambda: vae.decode(latent), 0.4)
    last = unet.get_submodule("out.2")
    context = torch.randn(2, 77, _WIDTH, generator=generator)
    _normalise(last, lambda: unet(latent, timesteps=torch.tensor([200.0, 800.0]), context=context), 0.7)


def _normalise(layer: Any, run: Callable[[], Tensor], deviation: float) -> None:
    factor = deviation / run().std()
    layer.weight *= factor
    layer.bias *= factor
