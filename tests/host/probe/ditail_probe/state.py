"""What a request must leave as it found it."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import torch
from modules import devices, extra_networks, script_callbacks, sd_hijack, sd_models, sd_unet, sd_vae, shared
from torch.nn.modules import module as torch_module

from . import seams
from .recorder import loaded_file


def snapshot() -> dict[str, Any]:
    model = shared.sd_model
    if seams.loaded() is None:  # Forge's, before the first request
        return {}
    unet = seams.unet(model)
    return {
        "checkpoint": loaded_file(),
        "object": id(model),
        "model_attributes": sorted(vars(model)),
        "module_attributes": hashlib.sha256(repr(_attributes(seams.root(model))).encode()).hexdigest()[:16],
        "embeddings": _embeddings(),
        "low_memory": shared.parallel_processing_allowed,
        "precision": [str(devices.dtype_unet), str(devices.dtype_vae), devices.fp8, devices.unet_needs_upcast],
        "padding": sorted({layer.padding_mode for layer in unet.modules() if isinstance(layer, torch.nn.Conv2d)}),
        "vae": sd_vae.get_loaded_vae_name(),
        "loaded_models": _held(),
        "modules": _touched_modules(seams.root(model)),
        "global_hooks": len(_hooks_of_all()),
        "attributes": sorted(name for name in vars(unet) if not name.startswith("_")),
        "patched": _patched(model),
        "weights": _hash(unet.state_dict()),
        "vae_weights": _hash(seams.vae(model).state_dict()),
        "text_weights": _hash(seams.text_encoder(model).state_dict()),
        "alphas": _hash({"alphas": seams.alphas(model)}),
        "device": str(next(unet.parameters()).device),
        "training": any(module.training for module in unet.modules()),
        "text_encoder": type(seams.text_encoder(model)).__name__,
        "clip_layer_hijack": getattr(sd_hijack.model_hijack, "clip", None) is model.cond_stage_model,
        "sd_unet": str(sd_unet.current_unet),
        "loras": _loras(),
        "hypernetworks": [network.name for network in shared.loaded_hypernetworks],
        "options": {name: value for name, value in shared.opts.data.items() if name not in _COSMETIC},
        "callbacks": {name: len(callbacks) for name, callbacks in script_callbacks.callback_map.items()},
        "grad": torch.is_grad_enabled(),
    }


def _hooks_of_all() -> list[Any]:
    """On every module, but for the probe's own."""
    every = [*torch_module._global_forward_hooks.values(), *torch_module._global_forward_pre_hooks.values()]
    return [hook for hook in every if not hook.__module__.startswith("ditail_probe")]


def _embeddings() -> list[str]:
    table = getattr(sd_hijack.model_hijack, "embedding_db", None)  # in Forge each model has its own
    return [] if table is None else sorted(table.word_embeddings)


def _held() -> list[str]:
    return [model.sd_checkpoint_info.name for model in getattr(sd_models.model_data, "loaded_sd_models", ())]


def _patched(model: Any) -> list[str]:
    known = {**vars(model), **vars(seams.root(model)), **vars(getattr(model, "model", model))}
    return [name for name in ("apply_model", "forward") if name in known]


_COSMETIC = ("sd_checkpoint_hash",)  # the host writes it at every load, even where it keeps the option itself


def _touched_modules(model: torch.nn.Module) -> dict[str, list[str]]:
    """Hooks and instance forwards by module name."""
    touched = {}
    for name, module in model.named_modules():
        marks = []
        if "forward" in vars(module):
            marks.append(f"forward {getattr(vars(module)['forward'], '__qualname__', '?')}")
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"):
            marks += [f"{kind} {getattr(hook, '__qualname__', hook)}" for hook in getattr(module, kind).values()]
        if marks:
            touched[name] = marks
    return touched


def _attributes(model: torch.nn.Module) -> list[tuple[str, list[str]]]:
    """Names of the instance attributes of each module."""
    return [(name, sorted(vars(module))) for name, module in model.named_modules()]


def _hash(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _loras() -> list[str]:
    lora = extra_networks.extra_network_registry.get("lora")
    networks = getattr(sys.modules.get(type(lora).__module__), "networks", None)
    return [network.name for network in getattr(networks, "loaded_networks", [])]
