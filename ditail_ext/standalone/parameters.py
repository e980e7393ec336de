"""A picture's parameters as the WebUI writes and reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import __version__
from ..settings import TABLE, Settings


@dataclass(frozen=True)
class Sampling:
    """What an ordinary DDIM generation needs, next to Ditail's settings."""

    prompt: str
    negative_prompt: str
    steps: int
    cfg_scale: float


def infotext(
    sampling: Sampling, settings: Settings, target: str, source: str, size: tuple[int, int], more: Mapping[str, object]
) -> str:
    """The text of the PNG's ``parameters``.

    Args:
        sampling: the generation.
        settings: Ditail's; those that differ from the defaults are written, the four main ones always.
        target: name and hash of the target checkpoint, ``name [hash]``.
        source: the same of the source checkpoint.
        size: width and height in pixels.
        more: keys and values that are no settings.
    """
    name, _, short_hash = target.rpartition(" ")
    always = ("positive_scale", "negative_scale", "feature_ratio", "attention_ratio")
    ditail = {setting: getattr(settings, setting) for setting in always} | settings.changed()
    ditail["source_checkpoint"] = source
    fields = {
        "Steps": sampling.steps,
        "Sampler": "DDIM",
        "CFG scale": f"{sampling.cfg_scale:g}",
        "Size": f"{size[0]}x{size[1]}",
        "Model hash": short_hash.strip("[]"),
        "Model": name,
        **{entry.infotext: ditail[key] for key, entry in TABLE.items() if key in ditail},
        **more,
        "Ditail version": __version__,
    }
    pairs = ", ".join(f"{key}: {_quoted(value)}" for key, value in fields.items())
    return f"{sampling.prompt}\nNegative prompt: {sampling.negative_prompt}\n{pairs}"


def _quoted(value: object) -> str:
    """As the WebUI quotes: with JSON's rules, when a value holds a separator."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if not any(mark in text for mark in ',\n:"'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
