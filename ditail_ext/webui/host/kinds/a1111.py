"""AUTOMATIC1111's WebUI, and descendants that left its models and samplers as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from modules import devices, sd_hijack, sd_models, shared
from torch import Tensor, nn

from ....core import Condition, Levels, expand_rows, timesteps_of
from .hijacked import Hijacked


class A1111(Hijacked):
    """The models are ldm's and sgm's objects; a sampler's denoiser calls k-diffusion's wrapper around one."""

    whole_conditions = False
    several_models = True

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether the host's model is one of this kind."""
        return callable(getattr(model, "apply_model", None))

    def unet(self, model: Any) -> nn.Module | None:
        """``model.model.diffusion_model``."""
        unet = getattr(getattr(model, "model", None), "diffusion_model", None)
        return unet if isinstance(unet, nn.Module) else None

    def output(self, model: Any, rows: Tensor, level: Levels, cond: Condition, image_cond: Tensor | None) -> Tensor:
        """By ``apply_model``, which moves weights where they belong under ``--medvram``."""
        output: Tensor = model.apply_model(rows, timesteps_of(level, rows), condition_dict(cond, image_cond, rows))
        return output

    def predicts_v(self, model: Any) -> bool:
        """As its configuration says."""
        return getattr(model, "parameterization", "eps") == "v"

    def ready(self, model: Any, latent: Tensor) -> AbstractContextManager[None]:
        """It always is."""
        return nullcontext()

    def encode(self, model: Any, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        """One by one, as the host does."""
        model.first_stage_model.to(dtype)
        as_the_host = dtype == devices.dtype_vae
        signed = pictures.to(shared.device, dtype=dtype) * 2 - 1
        latents = []
        with devices.autocast() if as_the_host else devices.without_autocast(), _posterior_means():
            for picture in signed:
                encoded = model.encode_first_stage(picture[None])
                mean = encoded if isinstance(encoded, Tensor) else encoded.mode()
                latents.append(model.get_first_stage_encoding(mean))
        return torch.cat(latents).float()

    @contextmanager
    def another_vae(self, model: Any, put: Callable[[nn.Module], None]) -> Iterator[None]:
        """A copy of the model's own with the weights put into it."""
        own = model.first_stage_model
        other = copy.deepcopy(own)
        for name in ("encode", "decode"):  # under --medvram these are the host's, and bound to the own VAE
            vars(other).pop(name, None)
        other._forward_pre_hooks.clear()
        try:
            put(other)
            model.first_stage_model = other.to(devices.device, devices.dtype_vae)
            yield
        finally:
            model.first_stage_model = own

    def sampler_call(self, denoiser: Any) -> tuple[Any, str]:
        """The wrapper's ``forward``."""
        return denoiser.inner_model, "forward"

    def without_networks(self, model: Any) -> AbstractContextManager[None]:
        """The Lora extension's lists are all that counts; layers look at them when they are called."""
        return nullcontext()

    def unmerge(self, model: Any) -> None:
        """Done layer by layer, with the Lora extension's functions."""

    def merge(self, model: Any) -> None:
        """Layers do it when they are called."""

    def schedule_of(self, p: Any, model: Any) -> AbstractContextManager[None]:
        """What the options say is put into the model at once and stays, as the host itself does before it samples."""
        sd_models.apply_alpha_schedule_override(*((model,) if p is None else (model, p)))
        return nullcontext()

    def after_failure(self, model: Any) -> None:
        """Nothing that the next request does not set anew."""

    def tiles(self, model: Any) -> bool:
        """The host counts on one model only."""
        return bool(sd_hijack.model_hijack.circular_enabled)

    def tile(self, model: Any, enabled: bool) -> None:
        """As the host does with the one that it counts on."""
        for module in model.modules():
            if type(module) is nn.Conv2d:
                module.padding_mode = "circular" if enabled else "zeros"

    def moves_layers(self, model: Any) -> bool:
        """Under ``--medvram`` and ``--lowvram``."""
        return not shared.parallel_processing_allowed

    def patched(self, model: Any) -> tuple[str, str] | None:
        """Extensions change modules, which is seen elsewhere."""
        return None

    def release(self, model: Any) -> None:
        """As the host does with a model that it throws away."""
        sd_models.send_model_to_trash(model)


def condition_dict(cond: Condition, image_cond: Tensor | None, rows: Tensor) -> dict[str, Any]:
    """The condition in the form that the host's ``apply_model`` takes; it replaces entries, so never a shared one."""
    count = rows.shape[0]
    cond = expand_rows(cond, count)
    if image_cond is None:
        image_cond = rows.new_zeros(count, 5, 1, 1)
    image_cond = image_cond if image_cond.shape[0] == count else image_cond[:1].expand(count, *image_cond.shape[1:])
    if isinstance(cond, dict):
        return {**cond, "c_concat": [image_cond]}
    return {"c_crossattn": [cond], "c_concat": [image_cond]}


@contextmanager
def _posterior_means() -> Iterator[None]:
    """Let sgm's VAE, which samples its posterior before anyone sees it, give the mean instead."""
    from sgm.modules.distributions.distributions import DiagonalGaussianDistribution

    sample = DiagonalGaussianDistribution.sample
    DiagonalGaussianDistribution.sample = lambda self: self.mode()
    try:
        yield
    finally:
        DiagonalGaussianDistribution.sample = sample
