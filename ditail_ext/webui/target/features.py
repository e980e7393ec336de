"""The source's recorded features, kept between generations with the same source and target.

What a record pass computes depends on the trajectory, the target's UNet with its mix and its networks, the layers and
the options that change how the UNet computes; not on prompt, seed, CFG scale or masks. All that goes into the key.
What other extensions change is put aside for it. Where something else may change it unseen (an inpainting model's
mask), nothing is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import psutil
from modules import devices, shared
from torch import Tensor, nn

from ...core import BankSlot, Shortcut, free_bytes, rows_worth_a_call
from ...settings import Settings
from ..cache import identity
from ..cache import memory as cache
from ..cache.keys import key_of
from ..host import foreign, kinds, networks
from ..options import features_bytes, features_ram_bytes, record_rows
from .mix import Mix

logger = logging.getLogger("ditail")

AUTOMATIC_SHARE = 4
"""Of the memory that is free where the UNet computes, one part in so many."""

ROOM_FOR_OTHERS = 2**31
"""Bytes of a GPU that are left to others when sampling ends; recorded features go to main memory for that."""

AUTOMATIC_RAM_SHARE = 8
"""The same of the main memory beside a GPU: it is page-locked, and nobody else can use it."""


def slots_for(
    p: Any, unet: nn.Module, settings: Settings, trajectory_keys: Sequence[str], mix: Mix | None = None
) -> Slots | None:
    """Where a batch's recordings are kept, by level; ``None`` if they had better not be.

    Args:
        p: the host's request.
        unet: the target's UNet, before anything is hooked.
        settings: checked.
        trajectory_keys: of the batch's source trajectories, in the order of their rows.
        mix: what the target is mixed with.
    """
    budget, ram_budget = _budget(), _ram_budget()
    cache.features.resize(budget, ram_budget)
    if not (budget or ram_budget) or is_low_on_memory() or _sees_a_picture(unet):
        return None
    if foreign.classes_are_replaced(unet):
        return None
    return partial(cache.features.slot, _key(p, settings, trajectory_keys, mix))


Slots = Callable[[Hashable], BankSlot]


def shortcut_for(unet: nn.Module) -> Shortcut:
    """How much of the replaced work may be left out: none where others watch the layers or move them about."""
    return Shortcut.REFERENCE if is_low_on_memory() or foreign.is_touched(unet) else Shortcut.PROJECTIONS


def rows_ahead(unet: nn.Module) -> Callable[[Tensor], int] | None:
    """How many rows of the source, given those of one level, may be recorded in one call; ``None`` for one level.

    Args:
        unet: the target's UNet, before anything is hooked.
    """
    asked = record_rows()
    if is_low_on_memory() or (asked is None and not _on_gpu()):
        return None
    channels = getattr(unet, "model_channels", 320)
    return lambda latents: asked or rows_worth_a_call(latents, channels, _free())


def make_room() -> None:
    """Give a GPU's memory back where others are short of it: a VAE that decodes, hires fix, the next plain request."""
    if _on_gpu() and _free() < ROOM_FOR_OTHERS:
        cache.features.make_room()


def is_low_on_memory() -> bool:
    """Whether the host moves parts of the model about (``--medvram``, ``--lowvram``)."""
    model = shared.sd_model
    return kinds.of(model).moves_layers(model)


def _budget() -> int:
    limit = features_bytes()
    return (_free() + cache.features.nbytes) // AUTOMATIC_SHARE if limit is None else limit


def _ram_budget() -> int:
    """Bytes of main memory beside a GPU; none where no features are to be kept at all."""
    if not _on_gpu() or features_bytes() == 0:
        return 0
    limit = features_ram_bytes()
    free = int(psutil.virtual_memory().available) + cache.features.host_nbytes
    return free // AUTOMATIC_RAM_SHARE if limit is None else limit


def _on_gpu() -> bool:
    return devices.device.type == "cuda"


def _free() -> int:
    """Bytes free where the UNet computes."""
    return free_bytes(devices.device) if _on_gpu() else int(psutil.virtual_memory().available)


def _sees_a_picture(unet: nn.Module) -> bool:
    """Whether the UNet is given a mask or a picture next to the latent (inpainting, editing), SDXL's included."""
    return getattr(unet, "in_channels", 4) != 4


def _key(p: Any, settings: Settings, trajectory_keys: Sequence[str], mix: Mix | None) -> str:
    return key_of(
        "features",
        sources=list(trajectory_keys),
        target=identity.of_model(shared.sd_model),
        mix=None if mix is None else mix.identity(),
        networks=networks.active_now(),
        layers=settings.layer_profile,
        tiling=bool(p.tiling),
        size=[p.width, p.height],
    )
