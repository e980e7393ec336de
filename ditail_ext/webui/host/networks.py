"""LoRAs and hypernetworks: none of the target's, or of an earlier request, while the source is at work.

The host never clears its lists at the end of a request, and clears them when it builds a model. So the lists are
kept here and put back.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from modules import devices, extra_networks, sd_models, shared
from torch import nn

from ...errors import SettingsError
from . import kinds
from .tags import INVERSION_PROMPT

logger = logging.getLogger("ditail")


@contextmanager
def none_active() -> Iterator[None]:
    """Empty the host's lists of active LoRAs and hypernetworks; fill them as they were at the end."""
    with only([]):
        yield


def active_lists() -> list[list[Any]]:
    """The host's active LoRAs and hypernetworks as they are now, for :func:`only`."""
    return [list(active) for active in _active_lists()]


@contextmanager
def only(networks: Sequence[Sequence[Any]]) -> Iterator[None]:
    """A context in which other networks are active; the host's lists are afterwards as they were.

    The host applies them when a layer is called, so the models that are called in here have these.

    Args:
        networks: what :func:`active_lists` found; none if empty.
    """
    lists = _active_lists()
    kept = [list(active) for active in lists]
    try:
        for active, wanted in zip(lists, networks or [[]] * len(lists), strict=True):
            active[:] = wanted
        with _none_merged():
            yield
    finally:
        for active, before in zip(lists, kept, strict=True):
            active[:] = before


@contextmanager
def active(tags: Mapping[str, Sequence[Any]], argument: str = INVERSION_PROMPT) -> Iterator[None]:
    """Activate the networks of a model's own prompt; to be entered with the model at work, in :func:`none_active`.

    Networks loaded here are forgotten at the end: the host would use them again by name for the target, whose
    layers they may not fit.

    Raises:
        SettingsError: there is no such network.
    """
    if not tags:
        yield
        return
    with _forgotten_afterwards():
        _activate(tags, argument)
        yield


@contextmanager
def active_as_in(run: Any, tags: Mapping[str, Sequence[Any]]) -> Iterator[None]:
    """Activate networks just as the host does for a request, its options about networks included; as :func:`active`.

    What does not exist is the host's to complain about.
    """
    if run.disable_extra_networks:
        yield
        return
    with _forgotten_afterwards():
        with devices.autocast():
            extra_networks.activate(run, {kind: list(params) for kind, params in tags.items()})
        yield


@contextmanager
def _forgotten_afterwards() -> Iterator[None]:
    in_memory = _lora_memory()
    known_before = set(in_memory)
    try:
        with _none_merged():
            yield
    finally:
        for found in _active_lists():
            found.clear()
        for name in set(in_memory) - known_before:
            in_memory.pop(name, None)


def _none_merged() -> AbstractContextManager[None]:
    """A context in which the model that is loaded for the host has no LoRAs, where models themselves have them."""
    model = sd_models.model_data.sd_model
    return kinds.of(model).without_networks(model)


def _activate(tags: Mapping[str, Sequence[Any]], argument: str) -> None:
    nobody = SimpleNamespace(all_prompts=[], extra_generation_params={}, is_hr_pass=False)
    for kind, params in tags.items():
        network = extra_networks.extra_network_registry.get(kind) or extra_networks.extra_network_aliases.get(kind)
        if network is None:
            raise SettingsError(
                argument,
                f"{argument}: the WebUI knows no networks of kind '{kind}'; take the tag out.",
            )
        noted = kinds.of(sd_models.model_data.sd_model).notes(sd_models.model_data.sd_model)
        comments = len(noted.comments)
        try:
            network.activate(nobody, list(params))
        except AttributeError as error:  # reForge's Lora extension trips over a name that it does not know
            raise SettingsError(
                argument,
                f"{argument}: a network of its tags could not be found; take the tag out or correct its name.",
            ) from error
        complaints = noted.comments[comments:]
        if complaints:
            said = "; ".join(complaints)
            raise SettingsError(argument, f"{argument}: {said}; take the network's tag out.")
        _require_loaded(kind, params, argument)


def _require_loaded(kind: str, params: Sequence[Any], argument: str) -> None:
    """The host goes on without a LoRA whose file it cannot read, and says so in its console alone."""
    module = lora_module()
    if kind != "lora" or module is None:
        return
    active_names = {getattr(network, "mentioned_name", None) or network.name for network in module.loaded_networks}
    for one in params:
        if one.positional and one.positional[0] not in active_names:
            raise SettingsError(
                argument,
                f"{argument}: the LoRA '{one.positional[0]}' could not be loaded; choose another or replace it.",
            )


def _active_lists() -> list[list[Any]]:
    lists = [shared.loaded_hypernetworks]
    module = lora_module()
    if module is not None:
        lists.append(module.loaded_networks)
    return lists


def active_now() -> list[list[Any]]:
    """What tells the target's active networks from others: name, file's time of change, multipliers."""
    module = lora_module()
    found: list[list[Any]] = []
    for network in getattr(module, "loaded_networks", ()):
        strengths = [network.te_multiplier, network.unet_multiplier, network.dyn_dim]
        # when it was read, and not what its file is now
        read = getattr(network, "mtime", None) or _changed(getattr(network.network_on_disk, "filename", None))
        found.append([network.name, read, *strengths])
    merged = kinds.of(sd_models.model_data.sd_model).merged_networks(sd_models.model_data.sd_model)
    if merged is not None:
        found.append([merged])
    for network in shared.loaded_hypernetworks:
        found.append(
            [network.name, _changed(getattr(network, "filename", None)), getattr(network, "multiplier", None)]
        )
    return found


def _changed(filename: str | None) -> int:
    path = Path(filename) if filename else None
    return path.stat().st_mtime_ns if path is not None and path.is_file() else 0


def lora_module() -> Any:
    """The built-in Lora extension's module of networks; ``None`` when it is switched off."""
    lora = extra_networks.extra_network_registry.get("lora")
    script = sys.modules.get(type(lora).__module__) if lora is not None else None
    return getattr(script, "networks", None)


def _lora_memory() -> dict[str, Any]:
    memory: dict[str, Any] = getattr(lora_module(), "networks_in_memory", {})
    return memory


def known_loras() -> Mapping[str, Any]:
    """The LoRAs that the host knows, by every name that a tag may give them."""
    return dict(getattr(lora_module(), "available_network_aliases", {}))  # of now: the host fills it anew


def list_loras() -> None:
    """Let the host look for LoRA files again."""
    module = lora_module()
    if module is not None:
        module.list_available_networks()


def files_of(tags: Mapping[str, Sequence[Any]]) -> list[list[Any]]:
    """Kind, tag, file and its time of change of every network that tags name, as far as the host knows it."""
    known = known_loras()
    files = [[kind, str(one.items), *_hypernetwork(kind, one)] for kind, params in tags.items() for one in params]
    for params in tags.get("lora", ()):
        found = known.get(params.positional[0]) if params.positional else None
        path = Path(found.filename) if found is not None else None
        files.append([str(path), path.stat().st_mtime_ns if path is not None and path.is_file() else 0])
    return files


def _hypernetwork(kind: str, params: Any) -> list[Any]:
    path = shared.hypernetworks.get(params.positional[0]) if kind == "hypernet" and params.positional else None
    return [] if path is None else [str(path), _changed(path)]


@torch.no_grad()
def unmerge(model: Any, unet: nn.Module) -> None:
    """Give a UNet's layers back their own weights, and let the host forget its copies of these.

    The WebUI merges active LoRAs into a layer's weights when the layer is called, from a copy that it made of them at
    the first time. After this it does both anew.
    """
    kinds.of(model).unmerge(model)
    module = lora_module()
    if module is None:
        return
    for layer in unet.modules():
        backups = (getattr(layer, name, None) for name in ("network_weights_backup", "network_bias_backup"))
        if any(backup is not None for backup in backups):
            module.network_restore_weights_from_backup(layer)
            module.network_reset_cached_weight(layer)


def merge(model: Any) -> None:
    """Put active LoRAs in force again after :func:`unmerge`, where the host does not do it at a layer's call."""
    kinds.of(model).merge(model)
