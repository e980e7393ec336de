"""Another VAE for a model, in a module beside its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modules import sd_models, sd_vae, shared
from torch import nn

from ...errors import CheckpointError
from . import kinds
from .beside.unloadable import first_line


@contextmanager
def another_vae(model: Any, file: str | None) -> Iterator[None]:
    """A context in which a model encodes and decodes with a VAE of a file, in a module beside its own.

    Args:
        model: the host's.
        file: of the VAE; ``None`` for the model's own, and then nothing happens.

    Raises:
        CheckpointError: the file holds no VAE that fits.
    """
    if file is None or file == getattr(model, "loaded_vae_file", None):
        yield
        return
    named = sd_vae.loaded_vae_file
    try:
        with kinds.of(model).another_vae(model, functools.partial(_put, file)):
            sd_vae.loaded_vae_file = file  # the host writes its name into infotexts
            yield
    finally:
        sd_vae.loaded_vae_file = named


def resolved_vae(info: Any) -> str | None:
    """The file of the VAE that the host finds for a checkpoint; ``None`` for the checkpoint's own.

    Where a host puts a VAE into the checkpoints that it loads (Forge's modules), it is a part of these.
    """
    if not kinds.of(sd_models.model_data.sd_model).resolves_vaes:
        return None
    found: str | None = sd_vae.resolve_vae(info.filename).vae
    return found


def _put(file: str, module: nn.Module) -> None:
    """Read a VAE's weights into a module like it."""
    try:
        weights = kinds.of(sd_models.model_data.sd_model).read_vae(file)
        if weights is None:
            weights = sd_vae.load_vae_dict(file, map_location=shared.weight_load_location)
        module.load_state_dict(weights)
    except Exception as error:  # what a damaged file makes the host's reader raise is anything
        raise CheckpointError(
            f"source_vae: {Path(file).name} could not be loaded ({type(error).__name__}: {first_line(error)}); "
            "choose another VAE."
        ) from error
