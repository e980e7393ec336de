"""Forge: model patchers around networks of its own, and no model that looks like the WebUI's.

A checkpoint's object is an *engine*. What the WebUI keeps in variables for the loaded model, an engine has itself: its
notes, its textual inversions, its VAE. So another one can be made beside the loaded one and forgotten again; only the
host's list of what it has brought to a device holds on to it.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from backend import loader, memory_management
from backend.modules.k_prediction import Prediction, rescale_zero_terminal_snr_sigmas
from backend.sampling.sampling_function import sampling_cleanup, sampling_prepare
from backend.text_processing import classic_engine
from backend.utils import load_torch_file
from modules import sd_models
from torch import Tensor, nn

from .patcher import Patched, real

_LARGEST_SIGMA = 1000.0
"""Above those of every schedule but one that ends in noise alone."""

_ordinary: weakref.WeakKeyDictionary[Any, Tensor] = weakref.WeakKeyDictionary()
"""Of a model's predictor its noise levels as loaded: the host leaves others behind where sampling fails."""


class Forge(Patched):
    """A UNet's model object has a ``predictor``, which says what it predicts and at which levels."""

    loads_alone = True
    resolves_vaes = False
    masks_with_noise = True

    _prepare = sampling_prepare
    _clean_up = sampling_cleanup
    _schedule = "predictor"

    def predicts_v(self, model: Any) -> bool:
        """By its predictor."""
        return bool(real(model).predictor.prediction_type == "v_prediction")

    def _is_diffusion(self, model: Any) -> bool:
        predictor = real(model).predictor
        return type(predictor) is Prediction and predictor.prediction_type in ("epsilon", "v_prediction")

    def alpha_bars(self, model: Any) -> Tensor:
        """From its sigmas, which alone say what is in force."""
        sigmas: Tensor = real(model).predictor.sigmas
        return 1.0 / (1.0 + sigmas.double() ** 2)

    def encode(self, model: Any, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        """The host's VAE chooses its precision and its tiles itself; its encoder draws from the posterior."""
        vae = model.forge_objects.vae
        module = vae.first_stage_model
        with _posterior_means(module):
            encoded = [vae.encode(picture[None].movedim(1, -1)) for picture in pictures]
        latents = torch.cat([module.process_in(latent) for latent in encoded])
        return latents.to(memory_management.get_torch_device(), torch.float32)

    @contextmanager
    def without_networks(self, model: Any) -> Iterator[None]:
        """Also without what the host notes of prompts meanwhile, which it would write to the target's pictures."""
        noted = dict(classic_engine.last_extra_generation_params)
        try:
            with super().without_networks(model):
                yield
        finally:
            classic_engine.last_extra_generation_params = noted

    def unmerge(self, model: Any) -> None:
        """The loader of LoRAs has each weight that it changed; the host is to load the patcher anew."""
        unet = model.forge_objects.unet
        memory_management.unload_model_clones(unet)
        unet.lora_loader.refresh({}, offload_device=unet.offload_device)

    def merge(self, model: Any) -> None:
        """Load it again, with its LoRAs."""
        memory_management.load_models_gpu([model.forge_objects.unet])

    def schedule_of(self, p: Any, model: Any) -> AbstractContextManager[None]:
        """The host changes the predictor's levels only around its own ``p.sample``."""
        predictor = real(model).predictor
        if float(predictor.sigmas[-1]) > _LARGEST_SIGMA:
            return nullcontext()
        _ordinary.setdefault(predictor, predictor.sigmas)
        return _zero_terminal_snr(p, predictor) if _wants_zero_terminal_snr(model) else nullcontext()

    def after_failure(self, model: Any) -> None:
        """Its noise levels, which it would rescale once more next time."""
        predictor = real(model).predictor
        before = _ordinary.get(predictor)
        if before is not None and predictor.sigmas is not before:
            predictor.set_sigmas(before)

    def tile(self, model: Any, enabled: bool) -> None:
        """The host notes it, and has no such pictures."""
        model.tiling_enabled = enabled

    def moves_layers(self, model: Any) -> bool:
        """Where not all of it found room on its device."""
        held = memory_management.current_loaded_models
        return any(one.model_accelerated for one in held if one.model.model is real(model))

    def release(self, model: Any) -> None:
        """Take it from the list of what is on a device, which alone holds it."""
        ours, held = self.parts(model), memory_management.current_loaded_models
        for index in range(len(held) - 1, -1, -1):
            if any(held[index].model.model is part for part in ours):
                held.pop(index).model_unload(avoid_model_moving=True)
        gc.collect()

    def notes(self, model: Any) -> Any:
        """Each model's own."""
        return model

    def embeddings(self, model: Any) -> Mapping[str, Any]:
        """Those of its text encoder; both of SDXL's know the same files."""
        engine = getattr(model, "text_processing_engine", None) or model.text_processing_engine_l
        found: Mapping[str, Any] = engine.embeddings.word_embeddings
        return found

    def parts(self, model: Any) -> Sequence[nn.Module]:
        """What its patchers patch."""
        objects = model.forge_objects_original
        return objects.unet.model, objects.clip.cond_stage_model, objects.vae.first_stage_model

    def averaged(self, model: Any) -> AbstractContextManager[None]:
        """The host reads no averages."""
        return nullcontext()

    def before_encoding(self, model: Any) -> None:
        """As the host does before it encodes a request's prompts."""
        model.set_clip_skip(int(sd_models.shared.opts.CLIP_stop_at_last_layers))

    def merged_networks(self, model: Any) -> str | None:
        """Files and strengths; the Lora extension's lists know no strengths."""
        return str(model.current_lora_hash)

    def load(self, info: Any, look: Callable[[Any], None]) -> Any:
        """As the host does, without letting go of the loaded one."""
        modules = sd_models.model_data.forge_loading_parameters.get("additional_modules", [])
        with _first_file_looked_at(look):
            model = sd_models.forge_loader(info.filename, additional_state_dicts=modules)
        if model is None:
            raise ValueError("Forge does not know its kind")
        model.extra_generation_params, model.comments = {}, []
        model.sd_checkpoint_info, model.filename = info, info.filename
        model.sd_model_hash = info.calculate_shorthash()
        return model

    def make_loaded(self, model: Any) -> None:
        """The host tells what is loaded by the parameters of its last load."""
        data = sd_models.model_data
        data.forge_loading_parameters = {**data.forge_loading_parameters, "checkpoint_info": model.sd_checkpoint_info}
        data.forge_hash = str(data.forge_loading_parameters)
        data.set_sd_model(model)

    def reload(self, info: Any) -> None:
        """By the host's function, which does nothing where it is loaded."""
        data = sd_models.model_data
        data.forge_loading_parameters = {**data.forge_loading_parameters, "checkpoint_info": info}
        sd_models.forge_model_reload()

    def is_packed(self, model: Any) -> bool:
        """In NF4, FP4 or GGUF."""
        return not isinstance(real(model).storage_dtype, torch.dtype)

    def options_of_load(self) -> Any:
        """The VAE and text encoders that are put into every checkpoint, and the numbers that its UNet is kept in."""
        loading = sd_models.model_data.forge_loading_parameters
        return [list(loading.get("additional_modules") or []), str(loading.get("unet_storage_dtype"))]

    def read_vae(self, file: str) -> Mapping[str, Tensor] | None:
        """By the host's reader of all files."""
        weights = load_torch_file(file)
        return {name: value for name, value in weights.items() if not name.startswith("loss.")}


@contextmanager
def _posterior_means(module: Any) -> Iterator[None]:
    """Let an autoencoder give the mean, also in the tiles to which the host resorts when memory is short."""
    encode = type(module).encode
    vars(module)["encode"] = lambda x, regulation=None: encode(module, x, lambda posterior: posterior.mode())
    try:
        yield
    finally:
        del vars(module)["encode"]


@contextmanager
def _first_file_looked_at(look: Callable[[Any], None]) -> Iterator[None]:
    """Show the checkpoint's weights as they are read; the files after the first are its other modules."""
    read = loader.load_torch_file
    looked: list[str] = []

    def reading(file: str, *args: Any, **kwargs: Any) -> Any:
        weights = read(file, *args, **kwargs)
        if not looked:
            look(weights)
            looked.append(file)
        return weights

    loader.load_torch_file = reading
    try:
        yield
    finally:
        loader.load_torch_file = read


def _wants_zero_terminal_snr(model: Any) -> bool:
    wanted = sd_models.shared.opts.sd_noise_schedule == "Zero Terminal SNR"
    return wanted or bool(getattr(model.model_config, "ztsnr", False))


@contextmanager
def _zero_terminal_snr(p: Any, predictor: Any) -> Iterator[None]:
    sigmas = predictor.sigmas
    if p is not None:
        p.extra_generation_params["Noise Schedule"] = sd_models.shared.opts.sd_noise_schedule
    predictor.set_sigmas(rescale_zero_terminal_snr_sigmas(sigmas))
    try:
        yield
    finally:
        predictor.set_sigmas(sigmas)
