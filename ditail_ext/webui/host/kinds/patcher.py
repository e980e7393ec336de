"""reForge: the UNet is asked by its own model object, whose weights a model patcher merges and moves about.

LoRAs are merged when a UNet is brought to its device, and stay until another patcher of the same UNet is. Other
extensions' changes are options of such a patcher. The host's object for a checkpoint has four of them, and copies of
the group to go back to: as loaded, and with the request's LoRAs.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from ldm_patched.modules import model_management, model_sampling
from modules import sd_models
from modules_forge import forge_util
from modules_forge.forge_sampler import sampling_cleanup, sampling_prepare
from torch import Tensor, nn

from ....core import Condition, Level, Levels, expand_rows

_GROUPS = ("forge_objects", "forge_objects_after_applying_lora", "current_lora_hash")
"""What the Lora extension changes of a model."""

_ZERO_SNR = 1e-6
"""An alpha-bar below which no other schedule ends."""


class Patched:
    """The models are the WebUI's only by name; ``forge_objects`` computes."""

    whole_conditions = True
    several_models = False  # bringing one to the device ends the other's being ready

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether the host's model is one of this kind."""
        unet = getattr(getattr(model, "forge_objects", None), "unet", None)
        real = getattr(unet, "model", None)
        return all(hasattr(real, name) for name in ("apply_model", "model_sampling", "diffusion_model")) and hasattr(
            model, "forge_objects_original"
        )

    def unet(self, model: Any) -> nn.Module | None:
        """Shared by all patchers of the model."""
        unet = _real(model).diffusion_model
        kind = isinstance(_real(model).model_sampling, model_sampling.EPS)  # that v is predicted is one of it
        return unet if kind and isinstance(unet, nn.Module) else None

    def output(self, model: Any, rows: Tensor, level: Levels, cond: Condition, image_cond: Tensor | None) -> Tensor:
        """By the class's ``apply_model``, without the patchers' options, which are other extensions'.

        It takes VE latents and gives clean ones, and finds the timestep to a sigma itself.
        """
        real = _real(model)
        count, like = rows.shape[0], torch.float32
        sigmas = [one.sigma for one in ([level] * count if isinstance(level, Level) else level)]
        sigma = torch.tensor(sigmas, dtype=like, device=rows.device)
        each = sigma.view(-1, 1, 1, 1)
        scale = (1 + each**2).sqrt()
        latent = rows.to(like) * scale
        clean = type(real).apply_model(real, latent, sigma, **_conditions(real, cond, image_cond, count))
        if self.predicts_v(model):
            return (latent / scale**2 - clean) * scale / each
        return (latent - clean) / each

    def predicts_v(self, model: Any) -> bool:
        """The model's sampling says it; the configuration may not know."""
        return isinstance(_real(model).model_sampling, model_sampling.V_PREDICTION)

    @contextmanager
    def ready(self, model: Any, latent: Tensor) -> Iterator[None]:
        """Load it as the host's samplers do, with just the LoRAs that it has now."""
        unet = model.forge_objects.unet
        sampling_prepare(unet, latent)
        try:
            yield
        finally:
            sampling_cleanup(unet)

    def encode(self, model: Any, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        """The host's VAE chooses its precision itself, and gives means."""
        device = model_management.get_torch_device()
        signed = pictures.to(device, torch.float32) * 2 - 1
        return torch.cat([model.encode_first_stage(picture[None]) for picture in signed]).float()

    @contextmanager
    def another_vae(self, model: Any, put: Callable[[nn.Module], None]) -> Iterator[None]:
        """A copy of the model's VAE, with a patcher of its own."""
        own = model.forge_objects
        other = copy.copy(own.vae)
        other.first_stage_model = copy.deepcopy(own.vae.first_stage_model)
        before = own.vae.patcher
        other.patcher = type(before)(
            other.first_stage_model, load_device=before.load_device, offload_device=before.offload_device
        )
        put(other.first_stage_model)
        try:
            model.forge_objects = own.shallow_copy()
            model.forge_objects.vae = other
            yield
        finally:
            model.forge_objects = own

    def sampler_call(self, denoiser: Any) -> tuple[Any, str]:
        """The denoiser goes around k-diffusion's wrapper, to the model that it wraps."""
        return _real(denoiser.inner_model.inner_model), "apply_model"

    @contextmanager
    def without_networks(self, model: Any) -> Iterator[None]:
        """As it was loaded. Whoever makes it ready within merges nothing, or what came within."""
        before = {name: getattr(model, name) for name in _GROUPS}
        try:
            model.forge_objects = model.forge_objects_original.shallow_copy()
            model.forge_objects_after_applying_lora = model.forge_objects_original.shallow_copy()
            model.current_lora_hash = str([])
            yield
        finally:
            for name, value in before.items():
                setattr(model, name, value)

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
            _real(model).model_sampling.set_sigmas(model.sigmas_original)
        if hasattr(model, "alphas_cumprod_original"):
            model.alphas_cumprod = model.alphas_cumprod_original

    def tiles(self, model: Any) -> bool:
        """Each model says it of itself."""
        return bool(model.tiling_enabled)

    def tile(self, model: Any, enabled: bool) -> None:
        """By the host's own function."""
        forge_util.apply_circular_forge(model, enabled)

    def moves_layers(self, model: Any) -> bool:
        """Where not all of it found room on its device."""
        return bool(getattr(_real(model), "model_lowvram", False))

    def patched(self, model: Any) -> tuple[str, str] | None:
        """What extensions have asked the patcher to do."""
        unet = model.forge_objects.unet
        options = unet.model_options
        layers = options.get("transformer_options", {})
        asked = [
            (options.get("model_function_wrapper"), "cuts the picture into tiles, or changes the UNet's calls"),
            (layers.get("patches", {}).get("attn1_patch"), "changes the self-attention that Ditail injects"),
            (layers.get("patches_replace", {}).get("attn1"), "changes the self-attention that Ditail injects"),
            (unet.object_patches.get("model_sampling"), "changes the noise schedule after the picture was inverted"),
        ]
        for patch, does in asked:
            if patch:
                return _name_of(patch), does
        return None

    def release(self, model: Any) -> None:
        """Nothing but references hold it."""
        gc.collect()


def _real(model: Any) -> Any:
    return model.forge_objects.unet.model


def _conditions(real: Any, cond: Condition, image_cond: Tensor | None, count: int) -> dict[str, Any]:
    cond = expand_rows(cond, count)
    if isinstance(cond, dict):
        given = {"c_crossattn": cond["crossattn"], "y": cond["vector"]}
    else:
        given = {"c_crossattn": cond}
    if image_cond is not None and real.diffusion_model.in_channels != real.latent_format.latent_channels:
        rows = image_cond if image_cond.shape[0] == count else image_cond[:1].expand(count, *image_cond.shape[1:])
        given["c_concat"] = rows
    device = model_management.get_torch_device()
    return {name: value.to(device) for name, value in given.items()}


def _wants_zero_terminal_snr(model: Any) -> bool:
    """Also whether it is not in force already: the host has no word for it."""
    wanted = sd_models.shared.opts.sd_noise_schedule == "Zero Terminal SNR" or getattr(model, "ztsnr", False)
    return bool(wanted) and float(model.alphas_cumprod[-1]) > _ZERO_SNR


@contextmanager
def _zero_terminal_snr(p: Any, model: Any) -> Iterator[None]:
    sampling = _real(model).model_sampling
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


def _name_of(patch: Any) -> str:
    """The module that a patch comes from; several are a list or a dictionary of them."""
    while isinstance(patch, (list, tuple, dict)) and patch:
        patch = next(iter(patch.values())) if isinstance(patch, dict) else patch[0]
    while hasattr(patch, "func"):
        patch = patch.func
    named = patch if hasattr(patch, "__qualname__") else type(patch)
    return str(named.__module__).removesuffix(".py").rpartition(".")[2]
