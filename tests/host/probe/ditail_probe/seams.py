"""What each host calls its networks, its loader and the parts of a loaded model."""

# ruff: noqa: F401 - the networks' classes are for the recorder

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from modules import sd_models

try:
    from backend import loader as of_forge
except ImportError:
    of_forge = None

if of_forge is not None:  # it has neither ldm nor sgm
    from backend.nn.unet import IntegratedUNet2DConditionModel as UNetModel
    from backend.nn.vae import IntegratedAutoencoderKL as AutoencoderKL

    UNETS = (UNetModel,)
    OpenAIWrapper = ()
    LOADER = (sd_models, "forge_loader")
else:
    from sgm.modules.diffusionmodules.wrappers import OpenAIWrapper

    try:  # reForge has its own networks and its own loader
        from ldm_patched.ldm.models.autoencoder import AutoencoderKL
        from ldm_patched.ldm.modules.diffusionmodules.openaimodel import UNetModel
        from modules_forge import forge_loader

        LOADER = (forge_loader, "load_model_for_a1111")
    except ImportError:
        from ldm.models.autoencoder import AutoencoderKL
        from ldm.modules.diffusionmodules.openaimodel import UNetModel

        LOADER = (sd_models, "load_model_weights")
    UNETS = (UNetModel, OpenAIWrapper)
"""The WebUI's for SD1 and SD2; of SDXL's what calls it, which is given all by position. Elsewhere one for all."""


def watch_loads(before: Callable[..., None], tell: Callable[[str], None]) -> None:
    """Call ``tell`` with a checkpoint file's name before its weights are loaded.

    Args:
        before: wraps a function of an owner so that another one is called before it.
        tell: is told.
    """

    def told(*args: Any, **given: Any) -> None:
        file = args[0] if of_forge is not None else (given.get("checkpoint_info") or args[1]).filename
        tell(Path(file).name)

    before(*LOADER, told)


def loaded() -> Any:
    """The host's loaded model; ``None`` for none, and for Forge's stand-in before the first request."""
    model = sd_models.model_data.sd_model
    return model if hasattr(model, "sd_checkpoint_info") else None


def root(model: Any) -> Any:
    """The module with the whole of a model, or with its UNet where there is no such module."""
    return model.forge_objects.unet.model if of_forge is not None else model


def unet(model: Any) -> Any:
    return root(model).diffusion_model if of_forge is not None else model.model.diffusion_model


def vae(model: Any) -> Any:
    return model.forge_objects.vae.first_stage_model if of_forge is not None else model.first_stage_model


def text_encoder(model: Any) -> Any:
    return model.forge_objects.clip.cond_stage_model if of_forge is not None else model.cond_stage_model


def alphas(model: Any) -> Any:
    """The noise schedule that is in force."""
    return root(model).predictor.sigmas if of_forge is not None else model.alphas_cumprod
