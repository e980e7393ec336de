"""Another VAE for a model, in a module beside its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modules import devices, sd_vae, shared

from ...errors import CheckpointError
from .unloadable import first_line


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
    own, named = model.first_stage_model, sd_vae.loaded_vae_file
    other = copy.deepcopy(own)
    for name in ("encode", "decode"):  # under --medvram these are the host's, and bound to the own VAE
        vars(other).pop(name, None)
    other._forward_pre_hooks.clear()
    try:
        try:
            other.load_state_dict(sd_vae.load_vae_dict(file, map_location=shared.weight_load_location))
        except Exception as error:  # what a damaged file makes the host's reader raise is anything
            raise CheckpointError(
                f"source_vae: {Path(file).name} could not be loaded ({type(error).__name__}: {first_line(error)}); "
                "choose another VAE."
            ) from error
        model.first_stage_model = other.to(devices.device, devices.dtype_vae)
        sd_vae.loaded_vae_file = file  # the host writes its name into infotexts
        yield
    finally:
        model.first_stage_model, sd_vae.loaded_vae_file = own, named
