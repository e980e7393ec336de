"""Lets a host that tells checkpoints by their sizes load the narrow ones of the tests, as their ``.yaml`` says.

For reForge, which looks at no ``.yaml`` for the networks themselves. For tests alone; does nothing to other files.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from ldm_patched.modules import sd, sd1_clip, sdxl_clip, supported_models, supported_models_base
from ldm_patched.modules.text_encoders import sd2_clip
from modules_forge import forge_loader

CLIP, OPEN_CLIP = 64, 384
"""Widths of the narrow checkpoints' text embeddings; no real checkpoint has them, nor both beside each other."""

SMALLEST_OPEN_CLIP = {
    "hidden_size": OPEN_CLIP,
    "intermediate_size": 4 * OPEN_CLIP,
    "projection_dim": OPEN_CLIP,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "hidden_act": "gelu",
}
"""What open_clip calls ViT-S-32; the rest is as in CLIP's own."""


class Layout:
    """What the ``.yaml`` of the checkpoint that is being loaded says."""

    params: dict[str, Any] | None = None


def unet_of(params: dict[str, Any]) -> dict[str, Any]:
    """A UNet's sizes; SDXL's are under another name."""
    return params.get("unet_config", params.get("network_config"))["params"]


def clip_config() -> dict[str, Any]:
    """As the folder says that the ``.yaml`` names."""
    if "cond_stage_config" in Layout.params:
        told = Layout.params["cond_stage_config"]
    else:
        told = Layout.params["conditioner_config"]["params"]["emb_models"][0]
    return json.loads((Path(told["params"]["version"]) / "config.json").read_text(encoding="utf-8"))


class NarrowTextModel(sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            return_projected_pooled=False,
            textmodel_json_config=clip_config(),
            model_options={},
        )


class NarrowClip(sd1_clip.SD1ClipModel):
    def __init__(self, **kwargs):
        super().__init__(clip_model=NarrowTextModel, **kwargs)


class NarrowOpenClip(sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        config = {"vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407, **SMALLEST_OPEN_CLIP}
        super().__init__(
            device=device,
            dtype=dtype,
            layer="hidden",
            layer_idx=-2,
            textmodel_json_config=config,
            special_tokens={"start": 49406, "end": 49407, "pad": 0},
            model_options={},
        )


class NarrowClips(torch.nn.Module):
    """SDXL's two; the host only looks at what it consists of."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__()
        self.clip_l = NarrowTextModel(device=device, dtype=dtype)
        self.clip_g = NarrowOpenClip(device=device, dtype=dtype)
        self.dtypes = {dtype}


class NarrowClipH(sd1_clip.SD1ClipModel):
    def __init__(self, **kwargs):
        super().__init__(clip_name="h", clip_model=NarrowOpenClip, **kwargs)


class Sized:
    """Heads and scale of the latents as the ``.yaml`` says, text encoders of our own."""

    text: ClassVar[tuple[type, type]]

    def __init__(self, unet_config):
        wanted = unet_of(Layout.params)
        heads = {name: wanted.get(name, -1) for name in ("num_heads", "num_head_channels")}
        self.unet_extra_config = {**self.unet_extra_config, **heads}
        super().__init__(unet_config)
        self.latent_format.scale_factor = Layout.params["scale_factor"]

    def clip_target(self, state_dict=None):
        return supported_models_base.ClipTarget(*self.text)


class Narrow(Sized, supported_models.SD15):
    unet_config: ClassVar[dict[str, Any]] = {
        "context_dim": CLIP,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
    }
    text = sd1_clip.SD1Tokenizer, NarrowClip


class NarrowSD2(Sized, supported_models.SD20):
    unet_config: ClassVar[dict[str, Any]] = {
        "context_dim": OPEN_CLIP,
        "use_linear_in_transformer": True,
        "adm_in_channels": None,
    }
    text = sd2_clip.SD2Tokenizer, NarrowClipH


class NarrowXL(Sized, supported_models.SDXL):
    unet_config: ClassVar[dict[str, Any]] = {"context_dim": CLIP + OPEN_CLIP, "use_linear_in_transformer": True}
    text = sdxl_clip.SDXLTokenizer, NarrowClips


KINDS = (Narrow, NarrowSD2, NarrowXL)


def load(original, timer, checkpoint_info=None, state_dict=None):
    beside = Path(checkpoint_info.filename).with_suffix(".yaml")
    params = yaml.safe_load(beside.read_text(encoding="utf-8"))["model"]["params"] if beside.is_file() else None
    widths = {kind.unet_config["context_dim"] for kind in KINDS}
    Layout.params = params if params and unet_of(params)["context_dim"] in widths else None
    try:
        return original(timer, checkpoint_info=checkpoint_info, state_dict=state_dict)
    finally:
        Layout.params = None


def autoencoder(original, ddconfig, **kwargs):
    if Layout.params is not None:
        ddconfig = Layout.params["first_stage_config"]["params"]["ddconfig"]
    return original(ddconfig=ddconfig, **kwargs)


if Narrow.__name__ not in {known.__name__ for known in supported_models.models}:
    supported_models.models[:0] = KINDS
    forge_loader.load_model_for_a1111 = functools.partial(load, forge_loader.load_model_for_a1111)
    sd.AutoencoderKL = functools.partial(autoencoder, sd.AutoencoderKL)
