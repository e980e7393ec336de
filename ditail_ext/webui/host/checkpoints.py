"""A checkpoint's file, checked before anything is touched: an unreadable one leaves the host with half a model."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import CheckpointError
from . import kinds
from .other_vae import resolved_vae

_UNET = "model.diffusion_model."
_FIRST_LAYER = _UNET + "input_blocks.0.0.weight"
_VAE = "first_stage_model."
_TEXT = ("cond_stage_model.", "conditioner.")
_SDXL_TEXT = "conditioner.embedders.1."
_MAX_HEADER = 100_000_000
_REFUSAL = "choose an SD1.x, SD2.x or SDXL base checkpoint"
SOURCE = "source_checkpoint"


@dataclass(frozen=True)
class FileFacts:
    """What a checkpoint file says about itself; ``None`` where it cannot be known without loading it."""

    has_vae: bool | None
    is_sdxl: bool | None


def check_file(info: Any, argument: str = SOURCE) -> FileFacts:
    """Check that a checkpoint can be loaded and is of a kind that Ditail can use beside the target.

    Args:
        info: the host's ``CheckpointInfo``.
        argument: where the checkpoint was given, for the message.

    Raises:
        CheckpointError: the file is missing, cut short or damaged, or holds another architecture.
    """
    keys = read_keys(info, argument)
    return FileFacts(None, None) if keys is None else _check_keys(info.title, keys, argument)


def read_keys(info: Any, argument: str) -> dict[str, Any] | None:
    """The tensors that a checkpoint's file lists, with type and shape; ``None`` where it must be loaded to know.

    Args:
        info: the host's ``CheckpointInfo``.
        argument: where the checkpoint was given, for the message.

    Raises:
        CheckpointError: the file is missing, cut short or damaged.
    """
    path = Path(info.filename)
    if not path.is_file():
        raise CheckpointError(
            f"{argument}: the file of '{info.title}' is gone; choose another checkpoint and refresh the list."
        )
    if path.suffix.lower() == ".safetensors":
        return read_header(path, argument)
    if path.stat().st_size == 0:
        raise CheckpointError(f"{argument}: the file of '{info.title}' is empty; download it again.")
    return None


def read_header(path: Path, argument: str = "source_checkpoint") -> dict[str, Any]:
    """The tensors that a safetensors file lists, with the file's size checked against them.

    Raises:
        CheckpointError: the file is no safetensors file, or is cut short.
    """
    damaged = f"{argument}: {path.name} is damaged or cut short; download it again."
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _MAX_HEADER):
                raise CheckpointError(damaged)
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise CheckpointError(damaged) from error
    if size < 8 + length + end:
        raise CheckpointError(damaged)
    return dict(header)


def check_weights(info: Any, weights: Mapping[str, Any], argument: str = SOURCE) -> FileFacts:
    """Check the weights that were read of a file, of whatever format, as :func:`check_file` does by a header.

    Raises:
        CheckpointError: they are those of another architecture, or not whole.
    """
    shapes = {name: {"shape": list(value.shape)} for name, value in weights.items() if hasattr(value, "shape")}
    return _check_keys(info.title, shapes, argument)


def require_vae(info: Any, vae: str | None, *, has_vae: bool | None) -> None:
    """Check that there is a VAE for a source: its own, a chosen one, or one that the host resolves.

    Raises:
        CheckpointError: there is none.
    """
    if has_vae is False and vae is None and resolved_vae(info) is None:
        raise CheckpointError(f"source_vae: '{info.title}' has no VAE of its own; choose a source VAE.")


def _check_keys(title: str, keys: Mapping[str, Any], argument: str) -> FileFacts:
    if _FIRST_LAYER not in keys:
        raise CheckpointError(
            f"{argument}: '{title}' holds no Stable Diffusion UNet that Ditail knows (SD3, a LoRA or a VAE "
            f"file, perhaps); {_REFUSAL}."
        )
    channels = keys[_FIRST_LAYER]["shape"][1]
    if channels != 4:
        raise _other_channels(title, channels, argument)
    is_sdxl = any(key.startswith(_TEXT[1]) for key in keys)
    if is_sdxl and not any(key.startswith(_SDXL_TEXT) for key in keys):
        raise CheckpointError(f"{argument}: '{title}' is an SDXL refiner; {_REFUSAL}.")
    if not any(key.startswith(_TEXT) for key in keys):
        raise CheckpointError(f"{argument}: '{title}' has no text encoder; choose a whole checkpoint.")
    return FileFacts(has_vae=any(key.startswith(_VAE) for key in keys), is_sdxl=is_sdxl)


def check_loaded(info: Any, model: Any, target_model: Any, argument: str = SOURCE) -> None:
    """Check a checkpoint once it is loaded: only then it is known what a file holds that is no safetensors file.

    Args:
        info: of the checkpoint.
        model: its own.
        target_model: the target's.
        argument: where the checkpoint was given, for the message.

    Raises:
        CheckpointError: it is of a kind that Ditail cannot use, or of another family than the target.
    """
    unet = kinds.of(model).unet(model)
    channels = getattr(unet, "in_channels", 4)
    if unet is None or getattr(model, "is_sd3", False):
        raise CheckpointError(f"{argument}: '{info.title}' holds no UNet that Ditail knows; {_REFUSAL}.")
    if channels != 4:
        raise _other_channels(info.title, channels, argument)
    check_families(info, bool(getattr(model, "is_sdxl", False)), target_model, argument)


def _other_channels(title: str, channels: int, argument: str) -> CheckpointError:
    return CheckpointError(
        f"{argument}: '{title}' takes {channels} channels (an inpainting, edit or depth checkpoint); "
        f"{_REFUSAL}. As the target an inpainting checkpoint may be used."
    )


def check_families(info: Any, is_sdxl: bool, target_model: Any, argument: str = SOURCE) -> None:
    """Check that a checkpoint's latents are the target's.

    Raises:
        CheckpointError: one is SDXL and the other is not.
    """
    if is_sdxl == bool(getattr(target_model, "is_sdxl", False)):
        return
    kinds = ("SDXL", "SD1.x or SD2.x")
    of_checkpoint, of_target = kinds if is_sdxl else kinds[::-1]
    raise CheckpointError(
        f"{argument}: '{info.title}' is {of_checkpoint} and the target is {of_target}; their latents are "
        f"not the same, so choose one that is {of_target}."
    )


def check_pair(facts: FileFacts, source: Any, target_model: Any, vae: str | None, *, needs_vae: bool = True) -> None:
    """Check that source and target share a latent space, and that the source has a VAE if it needs one.

    Raises:
        CheckpointError: they do not, or it has none.
    """
    if facts.is_sdxl is not None:
        check_families(source, facts.is_sdxl, target_model)
    if needs_vae:
        require_vae(source, vae, has_vae=facts.has_vae)
