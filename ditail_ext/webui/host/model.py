"""The model that the host has loaded, as core wants it: noise estimates, encoded pictures and prompts."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

import torch
from modules import devices, prompt_parser, shared
from torch import Tensor, nn

from ...core import Condition, Levels, NoiseSchedule, Prediction, PredictNoise, to_epsilon
from ...errors import PictureError, UnsupportedModelError
from . import kinds

logger = logging.getLogger("ditail")


def unet_of(model: Any) -> nn.Module:
    """The host model's UNet.

    Raises:
        UnsupportedModelError: it has none (SD3).
    """
    unet = None if getattr(model, "is_sd3", False) else kinds.of(model).unet(model)
    if unet is None:
        raise UnsupportedModelError("This checkpoint has no UNet; choose an SD1.x, SD2.x or SDXL base checkpoint.")
    return unet


def schedule_of(model: Any) -> NoiseSchedule:
    """The noise schedule of the host model, with the host's options about it applied.

    Downcast to half precision, neighbours may be equal; those are told apart far below that precision.
    """
    table = kinds.of(model).alpha_bars(model).detach().cpu().to(torch.float64)
    apart = torch.arange(len(table), dtype=torch.float64) * 1e-12
    return NoiseSchedule(table * (1.0 - apart) if bool((table.diff() >= 0).any()) else table)


def precision() -> AbstractContextManager[Any]:
    """The host's autocast context for UNet calls."""
    context: AbstractContextManager[Any] = (
        devices.without_autocast() if devices.unet_needs_upcast else devices.autocast()
    )
    return context


def noise_predictor(model: Any, image_cond: Tensor | None = None) -> PredictNoise:
    """Wrap what the host has for asking the UNet; its weights have to be where it computes (see :func:`ready`).

    Args:
        model: the host's model.
        image_cond: what the host gives as ``c_concat``, of 1 or B rows; a placeholder unless it is an inpainting
            model.
    """
    kind = kinds.of(model)
    prediction = Prediction.V if kind.predicts_v(model) else Prediction.EPSILON

    def predict_noise(latent: Tensor, level: Levels, cond: Condition) -> Tensor:
        rows = latent.to(devices.device)
        output = kind.output(model, rows, level, cond, image_cond)
        return to_epsilon(prediction, output.to(latent), latent, level)

    return predict_noise


def ready(model: Any, latent: Tensor) -> AbstractContextManager[None]:
    """A context in which a model may be asked for noise estimates outside of the host's samplers.

    Args:
        model: the host's, at work, with the networks that it is to have.
        latent: of the size that will be computed.
    """
    return kinds.of(model).ready(model, latent)


def encode_prompt(model: Any, prompt: str, *, negative: bool, width: int, height: int, steps: int) -> Condition:
    """The embedding of a prompt, (1, tokens, channels) or SDXL's dict, with the host's prompt syntax.

    Of a prompt that changes over the steps the last form counts, because it describes the finished picture; the
    parts of an ``AND`` are read as one prompt.
    """
    kinds.of(model).before_encoding(model)
    texts = prompt_parser.SdConditioning([_joined(prompt)], is_negative_prompt=negative, width=width, height=height)
    with devices.autocast():
        schedule = prompt_parser.get_learned_conditioning(model, texts, max(steps, 1))[0]
    cond = schedule[-1].cond
    if isinstance(cond, dict):
        return {name: value[None] for name, value in cond.items()}
    row: Tensor = cond[None]
    return row


def _joined(prompt: str) -> str:
    parts = prompt_parser.re_AND.split(prompt)
    if len(parts) == 1:
        return prompt
    texts = []
    for part in parts:
        match = prompt_parser.re_weight.search(part)
        texts.append((match.group(1) if match else part).strip())
    return ", ".join(text for text in texts if text)


@torch.no_grad()
def encode_picture(model: Any, pictures: Tensor) -> Tensor:
    """Encode pictures with the loaded VAE, taking the mean of its posterior.

    Where the VAE computes no numbers in half precision (SDXL's own), it encodes once more in the precision that the
    host's option for such VAEs names; the VAE is afterwards as it was.

    Args:
        model: the host's model.
        pictures: (B, 3, H, W) from 0 to 1.

    Returns:
        Latents (B, C, H / 8, W / 8), float32, in the model's scale.

    Raises:
        PictureError: the VAE computed something that is not a number.
    """
    latent = kinds.of(model).encode(model, pictures, devices.dtype_vae)
    safer = _safer_precision() if getattr(model, "first_stage_model", None) is not None else None
    if safer is not None and not bool(latent.isfinite().all()):
        logger.info("The VAE computed something that is not a number; encoding once more in %s", safer)
        try:
            latent = kinds.of(model).encode(model, pictures, safer)
        finally:
            model.first_stage_model.to(devices.dtype_vae)
    if not bool(latent.isfinite().all()):
        half = devices.dtype_vae != torch.float32
        raise PictureError(
            "source_vae could not encode the picture"
            + (
                " in half precision; start the WebUI with --no-half-vae, or choose another."
                if half
                else "; choose another."
            )
        )
    return latent


def _safer_precision() -> torch.dtype | None:
    """What the host falls back to when a VAE in half precision computes no numbers; ``None`` if it does not."""
    if devices.dtype_vae != torch.float16:
        return None
    if shared.opts.auto_vae_precision_bfloat16:
        return torch.bfloat16
    return torch.float32 if shared.opts.auto_vae_precision else None
