"""The source's model: made beside the target, and kept for the next picture as long as there is memory for it."""

from __future__ import annotations

import functools
import logging
from typing import Any, cast

import psutil
from modules import script_callbacks, sd_models, sd_vae, shared

from ...errors import CheckpointError
from ..cache import identity
from ..cache.keys import key_of, options_now
from ..cache.memory import models
from ..host import kinds
from ..host.beside.held import held_by_host
from ..host.beside.loaded import held_models, loaded_model
from ..host.beside.second_model import SecondModel, exchange, load_beside
from ..host.beside.unloadable import first_line
from ..host.checkpoints import SOURCE, check_loaded
from ..host.other_vae import resolved_vae
from ..options import model_bytes
from ..timing import Part, TimeSplit

logger = logging.getLogger("ditail")

AUTOMATIC_SHARE = 2
"""Of the main memory that is free, or that waiting models take, one part in so many may be taken by them."""

_OPTIONS = ("fp8_storage", "cache_fp16_weight")
"""The host's options by which the same file becomes another model."""


def take(info: Any, times: TimeSplit, argument: str = SOURCE) -> SecondModel:
    """The model of a checkpoint beside the target: one that waits, or a new one.

    Args:
        info: the host's ``CheckpointInfo``.
        times: takes the seconds of a load.
        argument: where the checkpoint was given, for the message.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    waiting = _held_by_host(info) or cast("SecondModel | None", models.take(_wanted(info)))
    if waiting is not None:
        return waiting
    with times.part(Part.LOAD):
        second = load_beside(info, argument)
    identity.remember(second.model)
    try:
        check_loaded(info, second.model, shared.sd_model, argument)
    except CheckpointError:
        second.release()
        raise
    return second


def is_in_memory(info: Any) -> bool:
    """Whether :func:`take` would need no load for a checkpoint; it is not taken."""
    return _held_by_host(info) is not None or _wanted(info) in models


def _held_by_host(info: Any) -> SecondModel | None:
    """One that the host holds itself, if it is what the file says now: the keys of what it computes say that."""
    held = held_by_host(info)
    return held if held is not None and identity.of_model(held.model) == identity.of_checkpoint(info) else None


def give_back(second: SecondModel) -> None:
    """Let a model wait for the next picture, if the budget allows; else it is released. The host keeps its own."""
    if second.model in held_models():
        return
    # By what it was made of: its file may have changed since.
    key = _key(identity.of_model(second.model), getattr(second.model, "loaded_vae_file", None))
    models.put(key, second, budget())


def _wanted(info: Any) -> str:
    """The key of the model that the host would make of a checkpoint now."""
    return _key(identity.of_checkpoint(info), resolved_vae(info))


def _key(source: identity.Identity, vae: str | None) -> str:
    return key_of("model", source=source, vae=identity.of_file(vae), storage=options_now(_OPTIONS))


def make_target(info: Any) -> None:
    """Let a waiting model become the loaded one, without a load, if this checkpoint is what the host will want.

    The model that was loaded waits in its place. Where none waits, or the host holds one itself, the host loads.
    """
    loaded = loaded_model()
    if loaded is None or loaded.sd_checkpoint_info.filename == info.filename or held_by_host(info) is not None:
        return
    waiting = cast("SecondModel | None", models.take(_wanted(info)))
    if waiting is None:
        return
    logger.info("'%s' waits in memory and becomes the target", info.title)
    before = exchange(waiting)
    give_back(before)


def load_target(info: Any, vae: str | None) -> None:
    """Make a checkpoint the loaded one again after others were, with a VAE of a file or its own.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    try:
        make_target(info)
        kind = kinds.of(shared.sd_model)
        if kind.loads_alone:
            kind.reload(info)
            return
        with sd_models.SkipWritingToConfig():
            sd_models.reload_model_weights(info=info)
        if sd_vae.loaded_vae_file != vae:
            sd_vae.reload_vae_weights(shared.sd_model, vae_file=vae)
    except Exception as error:
        raise CheckpointError(
            f"The checkpoint '{info.title}' could not be loaded again ({type(error).__name__}: {first_line(error)}); "
            "free some memory and select it in the WebUI."
        ) from error


def watch_unloading() -> None:
    """Release waiting models when the host is told to unload its checkpoint: whoever asks wants the memory.

    The host has no callback for it. Its function is wrapped while this extension's scripts are loaded; the page's
    button and the API's route both find it by its name in the host's module.
    """
    original = sd_models.unload_model_weights

    @functools.wraps(original)
    def unload(*args: Any, **kwargs: Any) -> Any:
        models.clear()
        return original(*args, **kwargs)

    def forget() -> None:
        models.clear()
        if sd_models.unload_model_weights is unload:
            sd_models.unload_model_weights = original

    sd_models.unload_model_weights = unload
    script_callbacks.on_script_unloaded(forget)


def budget() -> int:
    """Bytes of main memory that waiting models may take now."""
    asked = model_bytes()
    if asked is not None:
        return asked
    return (int(psutil.virtual_memory().available) + models.nbytes) // AUTOMATIC_SHARE


def trim() -> None:
    """Release what memory has become too short for, and models of another family than the target's."""
    target = loaded_model()
    if target is not None:
        sdxl = bool(getattr(target, "is_sdxl", False))
        models.release_unless(lambda held: bool(cast("SecondModel", held).model.is_sdxl) == sdxl)
    models.trim(budget())
