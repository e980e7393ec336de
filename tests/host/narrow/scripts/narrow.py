"""Lets a host that tells checkpoints by their sizes load the narrow ones of the tests, as their ``.yaml`` says.

For reForge, which looks at no ``.yaml`` for the networks themselves. For tests alone; does nothing to other files.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, ClassVar

import yaml
from ldm_patched.modules import latent_formats, sd, sd1_clip, supported_models, supported_models_base
from modules_forge import forge_loader

CONTEXT = 64
"""Width of the narrow checkpoints' text embeddings; no real checkpoint has it."""


class Layout:
    """What the ``.yaml`` of the checkpoint that is being loaded says."""

    params: dict[str, Any] | None = None


class NarrowTextModel(sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        folder = Path(Layout.params["cond_stage_config"]["params"]["version"])
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        super().__init__(
            device=device, dtype=dtype, return_projected_pooled=False, textmodel_json_config=config, model_options={}
        )


class NarrowClip(sd1_clip.SD1ClipModel):
    def __init__(self, **kwargs):
        super().__init__(clip_model=NarrowTextModel, **kwargs)


class Narrow(supported_models.SD15):
    unet_config: ClassVar[dict[str, Any]] = {
        "context_dim": CONTEXT,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
    }

    def __init__(self, unet_config):
        wanted = Layout.params["unet_config"]["params"]
        self.unet_extra_config = {"num_heads": wanted["num_heads"], "num_head_channels": -1}
        super().__init__(unet_config)
        self.latent_format = latent_formats.SD15(scale_factor=Layout.params["scale_factor"])

    def clip_target(self, state_dict=None):
        return supported_models_base.ClipTarget(sd1_clip.SD1Tokenizer, NarrowClip)


def load(original, timer, checkpoint_info=None, state_dict=None):
    beside = Path(checkpoint_info.filename).with_suffix(".yaml")
    params = yaml.safe_load(beside.read_text(encoding="utf-8"))["model"]["params"] if beside.is_file() else None
    Layout.params = params if params and params["unet_config"]["params"]["context_dim"] == CONTEXT else None
    try:
        return original(timer, checkpoint_info=checkpoint_info, state_dict=state_dict)
    finally:
        Layout.params = None


def autoencoder(original, ddconfig, **kwargs):
    if Layout.params is not None:
        ddconfig = Layout.params["first_stage_config"]["params"]["ddconfig"]
    return original(ddconfig=ddconfig, **kwargs)


if Narrow.__name__ not in {known.__name__ for known in supported_models.models}:
    supported_models.models.insert(0, Narrow)
    forge_loader.load_model_for_a1111 = functools.partial(load, forge_loader.load_model_for_a1111)
    sd.AutoencoderKL = functools.partial(autoencoder, sd.AutoencoderKL)
