"""Hosts whose UNet is asked by its own model object, whose weights a model patcher merges and moves about.

LoRAs are merged when a UNet is brought to its device, and stay until another patcher of the same UNet is. Other
extensions' changes are options of such a patcher. The host's object for a checkpoint has four of them, and copies of
the group to go back to: as loaded, and with the request's LoRAs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ....core import Condition, Level, Levels, expand_rows

_GROUPS = ("forge_objects", "forge_objects_after_applying_lora", "current_lora_hash")
"""What the Lora extension changes of a model."""

_WHOLE_PICTURE = "cuts the picture into tiles, or changes the UNet's calls"
_ATTENTION = "changes the self-attention that Ditail injects"
_SCHEDULE = "changes the noise schedule after the picture was inverted"


class Patched:
    """The models are the WebUI's only by name; ``forge_objects`` computes."""

    whole_conditions = True
    several_models = False  # bringing one to the device ends the other's being ready

    _prepare: Callable[[Any, Tensor], None]
    """The host's, before its samplers run: loads a patcher of the UNet."""

    _clean_up: Callable[[Any], None]
    """The host's, after them."""

    _schedule: str
    """The attribute of a UNet's model object that has its noise levels."""

    @classmethod
    def fits(cls, model: Any) -> bool:
        """Whether the host's model is one of this kind."""
        unet = getattr(getattr(model, "forge_objects", None), "unet", None)
        needed = ("apply_model", "diffusion_model", cls._schedule)
        return all(hasattr(getattr(unet, "model", None), name) for name in needed) and hasattr(
            model, "forge_objects_original"
        )

    def unet(self, model: Any) -> nn.Module | None:
        """Shared by all patchers of the model."""
        unet = real(model).diffusion_model
        return unet if isinstance(unet, nn.Module) and self._is_diffusion(model) else None

    def output(self, model: Any, rows: Tensor, level: Levels, cond: Condition, image_cond: Tensor | None) -> Tensor:
        """By the class's ``apply_model``, without the patchers' options, which are other extensions'.

        It takes VE latents and gives clean ones, and finds the timestep to a sigma itself.
        """
        owner = real(model)
        count, like = rows.shape[0], torch.float32
        sigmas = [one.sigma for one in ([level] * count if isinstance(level, Level) else level)]
        sigma = torch.tensor(sigmas, dtype=like, device=rows.device)
        each = sigma.view(-1, 1, 1, 1)
        scale = (1 + each**2).sqrt()
        latent = rows.to(like) * scale
        clean = type(owner).apply_model(
            owner, latent, sigma, **_conditions(owner, cond, image_cond, count, rows.device)
        )
        if self.predicts_v(model):
            return (latent / scale**2 - clean) * scale / each
        return (latent - clean) / each

    def predicts_v(self, model: Any) -> bool:
        """The model object says it; the configuration may not know."""
        raise NotImplementedError

    def _is_diffusion(self, model: Any) -> bool:
        """Whether the model estimates noise, or v, and not the flow of a newer kind."""
        raise NotImplementedError

    @contextmanager
    def ready(self, model: Any, latent: Tensor) -> Iterator[None]:
        """Load it as the host's samplers do, with just the LoRAs that it has now."""
        unet = model.forge_objects.unet
        type(self)._prepare(unet, latent)
        try:
            yield
        finally:
            type(self)._clean_up(unet)

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
        return real(denoiser.inner_model.inner_model), "apply_model"

    @contextmanager
    def without_networks(self, model: Any) -> Iterator[None]:
        """As it was loaded. Whoever makes it ready within merges nothing, or what came within."""
        before = {name: getattr(model, name) for name in _GROUPS}
        try:
            bare = model.forge_objects_original.shallow_copy()
            bare.vae = model.forge_objects.vae  # it may be another for the source's time
            model.forge_objects, model.forge_objects_after_applying_lora = bare, bare.shallow_copy()
            model.current_lora_hash = str([])
            yield
        finally:
            for name, value in before.items():
                setattr(model, name, value)

    def tiles(self, model: Any) -> bool:
        """Each model says it of itself."""
        return bool(model.tiling_enabled)

    def patched(self, model: Any) -> tuple[str, str] | None:
        """What extensions have asked the patcher to do."""
        unet = model.forge_objects.unet
        options = unet.model_options
        layers = options.get("transformer_options", {})
        asked = [
            (options.get("model_function_wrapper"), _WHOLE_PICTURE),
            (layers.get("patches", {}).get("attn1_patch"), _ATTENTION),
            (layers.get("patches_replace", {}).get("attn1"), _ATTENTION),
            (unet.object_patches.get(self._schedule), _SCHEDULE),
        ]
        for patch, does in asked:
            if patch:
                return _name_of(patch), does
        return None


def real(model: Any) -> Any:
    """The object that asks a model's UNet; all patchers of the UNet have the same one."""
    return model.forge_objects.unet.model


def _conditions(
    owner: Any, cond: Condition, image_cond: Tensor | None, count: int, device: torch.device
) -> Mapping[str, Any]:
    cond = expand_rows(cond, count)
    if isinstance(cond, dict):
        given = {"c_crossattn": cond["crossattn"], "y": cond["vector"]}
    else:
        given = {"c_crossattn": cond}
    if image_cond is not None and owner.diffusion_model.in_channels != owner.diffusion_model.out_channels:
        rows = image_cond if image_cond.shape[0] == count else image_cond[:1].expand(count, *image_cond.shape[1:])
        given["c_concat"] = rows
    return {name: value.to(device) for name, value in given.items()}


def _name_of(patch: Any) -> str:
    """The module that a patch comes from; several are a list or a dictionary of them."""
    while isinstance(patch, (list, tuple, dict)) and patch:
        patch = next(iter(patch.values())) if isinstance(patch, dict) else patch[0]
    while hasattr(patch, "func"):
        patch = patch.func
    named = patch if hasattr(patch, "__qualname__") else type(patch)
    return str(named.__module__).removesuffix(".py").rpartition(".")[2]
