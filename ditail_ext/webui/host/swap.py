"""A context in which the source checkpoint is loaded; the target comes back, however it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from modules import sd_hijack, sd_models, sd_vae, shared

from ...errors import CheckpointError
from ..timing import Part, TimeSplit

logger = logging.getLogger("ditail")


@contextmanager
def source_loaded(source: Any, vae: str | None, times: TimeSplit) -> Iterator[Any]:
    """Load the source checkpoint through the host and yield the model; bring the target back at the end.

    Nothing of a model may be kept across the border of this context: depending on configuration files and the
    number of checkpoints held, the target afterwards is the same Python object or another one.

    Args:
        source: the source's ``CheckpointInfo``; nothing is loaded when it is the target's.
        vae: file of the VAE to encode with, or ``None`` for the one the host resolves for the source.
        times: takes the seconds of both loads.

    Raises:
        CheckpointError: the source cannot be loaded, or the target does not come back.
    """
    target = shared.sd_model.sd_checkpoint_info
    target_vae = sd_vae.loaded_vae_file
    tiles = sd_hijack.model_hijack.circular_enabled
    failed = True
    try:
        with times.part(Part.LOAD):
            _forget_schedule_override()
            _load(source, vae)
        if tiles:
            _set_tiling(True)
        yield shared.sd_model
        failed = False
    finally:
        if tiles and sd_models.model_data.sd_model is not None:
            _set_tiling(False)
        with times.part(Part.SWAP_BACK), sd_models.SkipWritingToConfig():
            bring_back(target, target_vae, after_failure=failed)
        if tiles:
            _set_tiling(True)


def _set_tiling(enabled: bool) -> None:
    """Do to the loaded model what the host did to the target for tiling pictures; it counts on one model only."""
    for module in shared.sd_model.modules():
        if type(module) is torch.nn.Conv2d:
            module.padding_mode = "circular" if enabled else "zeros"


def _forget_schedule_override() -> None:
    """Undo the noise schedule option, which an in-place load would otherwise take for the checkpoint's own."""
    model = shared.sd_model
    if hasattr(model, "alphas_cumprod_original"):
        model.alphas_cumprod = model.alphas_cumprod_original.to(shared.device)


def _load(source: Any, vae: str | None) -> None:
    try:
        with sd_models.SkipWritingToConfig():
            sd_models.reload_model_weights(info=source)
        if vae is not None:
            sd_vae.reload_vae_weights(shared.sd_model, vae_file=vae)
    except Exception as error:
        raise CheckpointError(
            f"source_checkpoint: '{source.title}' could not be loaded ({type(error).__name__}: {_first_line(error)}); "
            "choose another checkpoint or replace the file."
        ) from error
    if not _is_loaded(source):
        raise CheckpointError(f"source_checkpoint: the WebUI did not load '{source.title}'; choose another.")
    sd_models.apply_alpha_schedule_override(shared.sd_model)


def bring_back(target: Any, target_vae: str | None, *, after_failure: bool) -> None:
    """Load the target again. A half-loaded model says it is the target, so after a failure the load is forced."""
    try:
        _reload(target, target_vae, forced=after_failure and _is_broken(target))
    except Exception:
        logger.exception("The target did not come back at the first attempt; loading it anew")
        try:
            _reload(target, target_vae, forced=True)
        except Exception as error:
            raise CheckpointError(
                f"The target '{target.title}' could not be loaded again ({type(error).__name__}: "
                f"{_first_line(error)}); free some memory and select it in the WebUI."
            ) from error


def _reload(target: Any, target_vae: str | None, *, forced: bool) -> None:
    if sd_models.model_data.sd_model is not None:
        _forget_schedule_override()
    sd_models.reload_model_weights(info=target, forced_reload=forced)
    _restore_vae(target_vae)
    if not _is_loaded(target):
        raise CheckpointError(f"The WebUI did not load '{target.title}'.")
    sd_models.apply_alpha_schedule_override(shared.sd_model)


def _restore_vae(file: str | None) -> None:
    if sd_vae.loaded_vae_file != file:
        sd_vae.reload_vae_weights(shared.sd_model, vae_file=file)


def _is_loaded(info: Any) -> bool:
    model = sd_models.model_data.sd_model
    return model is not None and model.sd_checkpoint_info.filename == info.filename


def _is_broken(target: Any) -> bool:
    """Whether a failed load left the target's remains: on no list, or without the host's patches."""
    if not _is_loaded(target):
        return False
    held = sd_models.model_data.loaded_sd_models
    return sd_models.model_data.sd_model not in held or sd_hijack.model_hijack.clip is None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
