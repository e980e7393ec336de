"""reForge: model patchers around ComfyUI's networks, beside models that still look like the WebUI's."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from ldm_patched.modules import model_management, model_sampling
from modules import sd_models
from modules_forge import forge_util
from modules_forge.forge_sampler import sampling_cleanup, sampling_prepare
from torch import Tensor

from .hijacked import Hijacked
from .patcher import Patched, real

_ZERO_SNR = 1e-6
"""An alpha-bar below which no other schedule ends."""


class ReForge(Hijacked, Patched):
    """A UNet's model object has a ``model_sampling``, which says what it predicts and at which levels."""

    _prepare = sampling_prepare
    _clean_up = sampling_cleanup
    _schedule = "model_sampling"

    def predicts_v(self, model: Any) -> bool:
        """The model's sampling says it; the configuration may not know."""
        return isinstance(real(model).model_sampling, model_sampling.V_PREDICTION)

    def _is_diffusion(self, model: Any) -> bool:
        return isinstance(real(model).model_sampling, model_sampling.EPS)  # that v is predicted is one of it

    def encode(self, model: Any, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        """The host's VAE chooses its precision itself, and gives means."""
        device = model_management.get_torch_device()
        signed = pictures.to(device, torch.float32) * 2 - 1
        return torch.cat([model.encode_first_stage(picture[None]) for picture in signed]).float()

    def unmerge(self, model: Any) -> None:
        """The patcher has a copy of each weight that it changed."""
        model.forge_objects.unet.unpatch_model()

    def merge(self, model: Any) -> None:
        """Load it again; the patcher sees that its changes are not in force."""
        model_management.load_models_gpu([model.forge_objects.unet])

    def schedule_of(self, p: Any, model: Any) -> AbstractContextManager[None]:
        """The host changes both of its tables only around its own ``p.sample``."""
        return _zero_terminal_snr(p, model) if _wants_zero_terminal_snr(model) else nullcontext()

    def after_failure(self, model: Any) -> None:
        """Its two tables of noise levels, which it would take for the original ones next time."""
        if hasattr(model, "sigmas_original"):
            real(model).model_sampling.set_sigmas(model.sigmas_original)
        if hasattr(model, "alphas_cumprod_original"):
            model.alphas_cumprod = model.alphas_cumprod_original

    def tile(self, model: Any, enabled: bool) -> None:
        """By the host's own function."""
        forge_util.apply_circular_forge(model, enabled)

    def moves_layers(self, model: Any) -> bool:
        """Where not all of it found room on its device."""
        return bool(getattr(real(model), "model_lowvram", False))

    def release(self, model: Any) -> None:
        """Nothing but references hold it."""
        gc.collect()


def _wants_zero_terminal_snr(model: Any) -> bool:
    """Also whether it is not in force already: the host has no word for it."""
    wanted = sd_models.shared.opts.sd_noise_schedule == "Zero Terminal SNR" or getattr(model, "ztsnr", False)
    return bool(wanted) and float(model.alphas_cumprod[-1]) > _ZERO_SNR


@contextmanager
def _zero_terminal_snr(p: Any, model: Any) -> Iterator[None]:
    sampling = real(model).model_sampling
    alphas, sigmas = model.alphas_cumprod, sampling.sigmas
    original = getattr(model, "alphas_cumprod_original", None)
    try:
        if not getattr(sd_models.shared.opts, "use_old_clip_g_load_and_ztsnr_application", False):
            model.alphas_cumprod_original = alphas
            sd_models.apply_alpha_schedule_override(model, p)
        sampling.set_sigmas(model_sampling.rescale_zero_terminal_snr_sigmas(sigmas))
        yield
    finally:
        sampling.set_sigmas(sigmas)
        model.alphas_cumprod = alphas
        if original is not None:
            model.alphas_cumprod_original = original
        elif hasattr(model, "alphas_cumprod_original"):
            del model.alphas_cumprod_original
