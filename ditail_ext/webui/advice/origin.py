"""Where a picture comes from: what its own parameters say of the checkpoint and the prompt that made it."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from modules import images, infotext_utils, sd_models
from PIL import Image

from ..host.installed import installed
from .sentence import name


@dataclass(frozen=True)
class Origin:
    """What a picture says about how it was made.

    Attributes:
        model: name of the checkpoint as the picture has it.
        checkpoint: its name here, or ``None`` where it is not installed.
        prompt: its prompt.
        negative_prompt: its negative prompt.
    """

    model: str
    checkpoint: str | None
    prompt: str
    negative_prompt: str


def origin_of(picture: Image.Image | None) -> Origin | None:
    """What a picture's parameters say; ``None`` where it has none, or they name no checkpoint.

    The checkpoint is looked up by its hash first: names are not the same everywhere.
    """
    if picture is None:
        return None
    text, _ = images.read_info_from_image(picture)
    if not text:
        return None
    said = infotext_utils.parse_generation_parameters(text, [])
    model, hashed = str(said.get("Model", "")), str(said.get("Model hash", ""))
    if not model and not hashed:
        return None
    found = _installed(model, hashed)
    return Origin(
        model or f"a checkpoint with the hash {hashed}",
        None if found is None else found.name,
        str(said.get("Prompt", "")),
        str(said.get("Negative prompt", "")),
    )


def _installed(model: str, hashed: str) -> Any:
    """By the hash, then by the name without folder and ending; never by a part of a name."""
    known = sd_models.checkpoint_aliases
    if hashed and hashed in known:
        return known[hashed]
    if not model:
        return None
    alike = [info for info in installed() if model in (info.model_name, info.name, info.name_for_extra)]
    return alike[0] if len(alike) == 1 else None


def in_words(origin: Origin) -> str:
    """What the panel says about it: HTML."""
    if origin.checkpoint is not None:
        return f"The picture says that it was made by {name(origin.checkpoint)}."
    return (
        f"The picture says that it was made by <b>{html.escape(origin.model)}</b>, which is not installed here: "
        "a checkpoint like it may do as the source."
    )
