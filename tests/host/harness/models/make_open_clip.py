"""Makes narrow SDXL and SD2 checkpoints that a WebUI loads like any other, each with its ``.yaml``.

Run by the WebUI's own interpreter, whose sgm and ldm know the layouts:
``python make_open_clip.py WEBUI TEXT_FOLDER OUT``. Their text encoders are open_clip's, here its smallest. SDXL has
its three levels, its transformers (the last two deep, not ten), CLIP beside open_clip and its vector of sizes; SD2
predicts v, with linear projections and heads by width. All files of a family share VAE and text encoders.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from random_weights import randomise
from safetensors.torch import save_file
from torch import nn

SEEDS = {"xl-alpha": 11, "xl-beta": 12, "sd2-alpha": 21, "sd2-beta": 22}
"""Of the UNets, by file; what stands before the dash is the family."""

OPEN_CLIP, OPEN_CLIP_WIDTH = "ViT-S-32", 384
CLIP_WIDTH = 64
"""As in the text folder's ``config.json``."""

SIZES = 6 * 256
"""Of SDXL's vector: six numbers, embedded."""


def sdxl(repositories: Path, text_folder: Path) -> dict[str, Any]:
    """SDXL's own configuration, made narrow."""
    file = repositories / "generative-models" / "configs" / "inference" / "sd_xl_base.yaml"
    settings: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    params = settings["model"]["params"]
    params["network_config"]["params"] |= {
        "transformer_depth": [1, 2, 2],
        "context_dim": CLIP_WIDTH + OPEN_CLIP_WIDTH,
        "adm_in_channels": OPEN_CLIP_WIDTH + SIZES,
        "spatial_transformer_attn_type": "softmax",
    }
    clip, open_clip, *_ = params["conditioner_config"]["params"]["emb_models"]
    clip["params"] |= {"version": str(text_folder), "layer_idx": 2}
    open_clip["params"] |= {"arch": OPEN_CLIP}
    params["first_stage_config"]["params"]["ddconfig"]["attn_type"] = "vanilla"
    return _narrow(settings, params["network_config"])


def sd2(repositories: Path, text_folder: Path) -> dict[str, Any]:
    """SD2's own configuration (768, v-prediction), made narrow."""
    del text_folder
    file = repositories / "stable-diffusion-stability-ai" / "configs" / "stable-diffusion" / "v2-inference-v.yaml"
    settings: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    params = settings["model"]["params"]
    params["unet_config"]["params"] |= {
        "context_dim": OPEN_CLIP_WIDTH,
        "use_fp16": False,
        "channel_mult": [1, 1, 1, 1],
    }
    params["cond_stage_config"]["params"] |= {"arch": OPEN_CLIP, "device": "cpu"}
    return _narrow(settings, params["unet_config"])


FAMILIES: dict[str, Callable[[Path, Path], dict[str, Any]]] = {"xl": sdxl, "sd2": sd2}


def _narrow(settings: dict[str, Any], unet: dict[str, Any]) -> dict[str, Any]:
    params = settings["model"]["params"]
    params["scale_factor"] = 1.0
    unet["params"] |= {"model_channels": 32, "num_head_channels": 16, "use_checkpoint": False}
    vae = params["first_stage_config"]["params"]["ddconfig"]
    vae |= {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    return settings


def build(settings: dict[str, Any]) -> Any:
    """The model with whatever weights; nothing is downloaded."""
    import open_clip
    from sgm.util import instantiate_from_config
    from transformers import CLIPTextConfig, CLIPTextModel

    create = open_clip.create_model_and_transforms
    open_clip.create_model_and_transforms = lambda *args, pretrained=None, **kwargs: create(*args, **kwargs)
    CLIPTextModel.from_pretrained = lambda folder: CLIPTextModel(CLIPTextConfig.from_pretrained(folder))
    try:
        return instantiate_from_config(settings["model"]).eval()
    finally:
        open_clip.create_model_and_transforms = create


@torch.no_grad()
def bring_vae_to_order_one(vae: Any) -> None:
    """Latents and pictures of about unit size; the last layers are linear, so this is exact."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 128, 128, generator=generator) * 2 - 1
    latent = torch.randn(1, 4, 16, 16, generator=generator)
    mean, _ = vae.quant_conv(vae.encoder(picture)).chunk(2, dim=1)
    vae.quant_conv.weight.data[:4] /= mean.std()
    vae.quant_conv.bias.data[:4] = 0
    vae.quant_conv.weight.data[4:] *= 0.1
    vae.quant_conv.bias.data[4:] = -4  # little of the posterior's noise
    vae.decoder.conv_out.weight.data *= 0.5 / vae.decoder(vae.post_quant_conv(latent)).std()
    vae.decoder.conv_out.bias.data.zero_()


@torch.no_grad()
def bring_unet_to_order_one(unet: Any, family: str) -> None:
    """Outputs of about unit size."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 4, 16, 16, generator=generator)
    width = OPEN_CLIP_WIDTH + (CLIP_WIDTH if family == "xl" else 0)
    given = {"context": torch.randn(1, 77, width, generator=generator)}
    if family == "xl":
        given["y"] = torch.randn(1, OPEN_CLIP_WIDTH + SIZES, generator=generator)
    at = [unet(latent, torch.tensor([float(t)]), **given) for t in (1, 201, 601, 901)]
    for parameter in unet.out[2].parameters():
        parameter.data *= 0.7 / torch.cat(at).std()


def write(name: str, model: nn.Module, settings: dict[str, Any], out: Path) -> None:
    """One checkpoint and its ``.yaml``; weights in half precision, the noise schedule as it is."""
    tensors = {key: value for key, value in model.state_dict().items() if not key.startswith("denoiser.")}
    tensors |= {key: value.detach().half().contiguous() for key, value in model.named_parameters()}
    (out / f"{name}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    save_file(tensors, str(out / f"{name}.safetensors"), metadata={"format": "pt"})


def main() -> None:
    """Write every file."""
    webui, text_folder, out = map(Path, sys.argv[1:])
    repositories = webui / "repositories"
    sys.path[:0] = [str(repositories / name) for name in ("generative-models", "stable-diffusion-stability-ai")]
    out.mkdir(parents=True, exist_ok=True)
    for family, configure in FAMILIES.items():
        settings = configure(repositories, text_folder)
        model = build(settings)
        randomise(model.conditioner if family == "xl" else model.cond_stage_model, 200, 0.3)
        randomise(model.first_stage_model, 100, 0.02)
        bring_vae_to_order_one(model.first_stage_model)
        for name in (name for name in SEEDS if name.startswith(f"{family}-")):
            unet = model.model.diffusion_model
            randomise(unet, SEEDS[name], 0.1)
            bring_unet_to_order_one(unet, family)
            write(name, model, settings, out)


if __name__ == "__main__":
    main()
