"""Makes narrow SDXL checkpoints that a WebUI loads like any other, each with its ``.yaml``.

Run by the WebUI's own interpreter, whose sgm knows the layout: ``python make_sdxl.py WEBUI TEXT_FOLDER OUT``. The
UNet has SDXL's three levels, its transformers (the last two deep, not ten), its two text encoders (the second is
open_clip's smallest) and its vector of sizes. All files share VAE and text encoders.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from random_weights import randomise
from safetensors.torch import save_file

SEEDS = {"xl-alpha": 11, "xl-beta": 12}
OPEN_CLIP, OPEN_CLIP_WIDTH = "ViT-S-32", 384
CLIP_WIDTH = 64
"""As in the text folder's ``config.json``."""


def config(webui: Path, text_folder: Path) -> dict[str, Any]:
    """SDXL's own configuration, made narrow."""
    file = webui / "repositories" / "generative-models" / "configs" / "inference" / "sd_xl_base.yaml"
    settings: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    params = settings["model"]["params"]
    params["scale_factor"] = 1.0
    params["network_config"]["params"] |= {
        "model_channels": 32,
        "num_head_channels": 16,
        "transformer_depth": [1, 2, 2],
        "context_dim": CLIP_WIDTH + OPEN_CLIP_WIDTH,
        "adm_in_channels": OPEN_CLIP_WIDTH + 6 * 256,
        "spatial_transformer_attn_type": "softmax",
        "use_checkpoint": False,
    }
    clip, open_clip, *_ = params["conditioner_config"]["params"]["emb_models"]
    clip["params"] |= {"version": str(text_folder), "layer_idx": 2}
    open_clip["params"] |= {"arch": OPEN_CLIP}
    sizes = params["first_stage_config"]["params"]["ddconfig"]
    sizes |= {"attn_type": "vanilla", "ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    return settings


def build(settings: dict[str, Any]) -> Any:
    """The model with whatever weights; nothing is downloaded."""
    import open_clip
    from sgm.util import instantiate_from_config
    from transformers import CLIPTextConfig, CLIPTextModel

    create = open_clip.create_model_and_transforms
    open_clip.create_model_and_transforms = lambda *args, pretrained=None, **kwargs: create(*args, **kwargs)
    CLIPTextModel.from_pretrained = lambda folder: CLIPTextModel(CLIPTextConfig.from_pretrained(folder))
    return instantiate_from_config(settings["model"]).eval()


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
def bring_unet_to_order_one(unet: Any) -> None:
    """Estimated noise of about unit size."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 4, 16, 16, generator=generator)
    context = torch.randn(1, 77, CLIP_WIDTH + OPEN_CLIP_WIDTH, generator=generator)
    vector = torch.randn(1, OPEN_CLIP_WIDTH + 6 * 256, generator=generator)
    at = [unet(latent, torch.tensor([float(t)]), context=context, y=vector) for t in (1, 201, 601, 901)]
    for parameter in unet.out[2].parameters():
        parameter.data *= 0.7 / torch.cat(at).std()


def main() -> None:
    """Write every file."""
    webui, text_folder, out = map(Path, sys.argv[1:])
    sys.path.insert(0, str(webui / "repositories" / "generative-models"))
    settings = config(webui, text_folder)
    model = build(settings)
    unet = model.model.diffusion_model
    randomise(model.conditioner, 200, 0.3)
    randomise(model.first_stage_model, 100, 0.02)
    bring_vae_to_order_one(model.first_stage_model)
    out.mkdir(parents=True, exist_ok=True)
    for name, seed in SEEDS.items():
        randomise(unet, seed, 0.1)
        bring_unet_to_order_one(unet)
        tensors = {key: value.half().contiguous() for key, value in model.state_dict().items()}
        tensors = {key: value for key, value in tensors.items() if not key.startswith("denoiser.")}
        (out / f"{name}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        save_file(tensors, str(out / f"{name}.safetensors"), metadata={"format": "pt"})


if __name__ == "__main__":
    main()
