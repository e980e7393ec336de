"""LoRAs that the host has merged into a UNet's weights, taken out for a while."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from . import kinds
from .networks import lora_module


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
