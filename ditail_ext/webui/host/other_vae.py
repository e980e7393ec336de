"""Another VAE for a model, in a module beside its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modules import sd_vae, shared
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


def _put(file: str, module: nn.Module) -> None:
    """Read a VAE's weights into a module like it."""
    try:
        module.load_state_dict(sd_vae.load_vae_dict(file, map_location=shared.weight_load_location))
    except Exception as error:  # what a damaged file makes the host's reader raise is anything
        raise CheckpointError(
            f"source_vae: {Path(file).name} could not be loaded ({type(error).__name__}: {first_line(error)}); "
            "choose another VAE."
        ) from error
