"""What tells checkpoints, VAEs and their files from others of the same name: as they were when they were loaded.

People train into one file name. While the old weights are loaded, the file says what will be loaded next, and not what
computes now. So a model's identity is taken when the host has loaded it, and a file's only for what is not loaded.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from modules import sd_models, shared

from ..host import kinds

Identity = list[Any]
"""As JSON."""

_SAMPLED = 16
"""Tensors of a checkpoint that are looked at to tell its weights from others, ..."""

_VALUES = 64
"""... and how many values of each."""

_loaded: weakref.WeakKeyDictionary[Any, tuple[str, Identity]] = weakref.WeakKeyDictionary()
"""Of the host's model objects: a digest of the weights, and what they were loaded from."""


def remember(model: Any) -> None:
    """Take a model's identity; for ``on_model_loaded``, which the host calls after each load into an object.

    It calls it after another VAE was loaded, too, and for a model that it only takes again. Then the weights are the
    same as before, and so is what they were loaded from, whatever the file is now.
    """
    unet = kinds.of(model).unet(model)
    layers = unet.named_modules() if unet is not None else ()  # a model that will be refused
    digest = _digest_of({name: _own_weight(layer) for name, layer in layers})
    known = _loaded.get(model)
    if known is None or known[0] != digest or known[1][0][0] != _place(model.sd_checkpoint_info.filename):
        _loaded[model] = digest, of_checkpoint(model.sd_checkpoint_info)


def of_model(model: Any) -> Identity:
    """What a model of the host was loaded from, whatever has become of the file since."""
    known = _loaded.get(model)
    if known is None or known[1][0][0] != _place(model.sd_checkpoint_info.filename):
        remember(model)  # it was loaded before this extension was
    return _loaded[model][1]


def of_checkpoint(info: Any) -> Identity:
    """What the host would load for a checkpoint: the file, the configuration beside it, or what it keeps of it."""
    path = Path(info.filename)
    known = [of_file(path) or [_place(path)], of_file(path.with_suffix(".yaml")), _in_main_memory(info)]
    beside = kinds.of(sd_models.model_data.sd_model).options_of_load()
    return known if beside is None else [*known, beside]


def of_file(path: Path | str | None) -> Identity | None:
    """Path, size and time of change of a file; ``None`` where there is none."""
    if path is None or not Path(path).is_file():
        return None
    stat = Path(path).stat()
    return [_place(path), stat.st_size, stat.st_mtime_ns]


def _place(path: Path | str) -> str:
    return str(Path(path).resolve())


def _in_main_memory(info: Any) -> str | None:
    """A digest of the weights that the host keeps of a checkpoint (its option ``sd_checkpoint_cache``).

    It loads these again and not the file, even if that has changed.
    """
    if not getattr(shared.opts, "sd_checkpoint_cache", 0):
        return None
    kept: Mapping[str, Any] | None = sd_models.checkpoints_loaded.get(info)
    if kept is None:
        return None
    return _digest_of(kept)


def _own_weight(layer: Any) -> Any:
    """A layer's weight without the LoRAs that the host has merged into it; it keeps a copy of what was there."""
    kept = getattr(layer, "network_weights_backup", None)
    weight = layer._parameters.get("weight")
    return kept if hasattr(kept, "flatten") else weight


def _digest_of(tensors: Mapping[str, Any]) -> str:
    """A digest over a sample of weights, of those with more than one dimension: fine-tunes may share the others."""
    names = sorted(name for name, value in tensors.items() if getattr(value, "ndim", 0) > 1)
    digest = hashlib.sha256()
    for name in names[:: max(len(names) // _SAMPLED, 1)]:
        values = tensors[name].detach().flatten()
        sample = values[:: max(len(values) // _VALUES, 1)].float().cpu().numpy()
        digest.update(np.ascontiguousarray(sample).tobytes())
    return digest.hexdigest()[:16]
