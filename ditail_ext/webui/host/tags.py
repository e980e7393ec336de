"""Tags of networks in a prompt, as ``<lora:name:0.8>``: read as the host reads them, checked as it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modules import extra_networks

from ...errors import SettingsError

INVERSION_PROMPT = "inversion_prompt"
"""The setting in which a tag is, unless another is named."""


def strip_tags(prompt: str) -> tuple[str, Mapping[str, Sequence[Any]]]:
    """A prompt without its ``<lora:...>`` tags, and what the tags say, by kind of network."""
    text, tags = extra_networks.parse_prompt(prompt)
    return text, tags


def check_tags(tags: Mapping[str, Sequence[Any]], argument: str = INVERSION_PROMPT) -> None:
    """Refuse tags that the host would understand by halves, or not at all, before anything is loaded.

    Raises:
        SettingsError: a network's strength is no number.
    """
    for kind, params in tags.items():
        for one in params:
            strengths = [*one.positional[1:3], *(one.named.get(name, "1") for name in ("te", "unet"))]
            whole = [*one.positional[3:4], *([one.named["dyn"]] if "dyn" in one.named else [])]
            if not all(_is(float, text) for text in strengths) or not all(_is(int, text) for text in whole):
                tag = f"<{kind}:{':'.join(str(item) for item in one.items)}>"
                raise SettingsError(
                    argument,
                    f"{argument}: {tag} has a strength that is no number; write it as <{kind}:name:0.8>.",
                )


def _is(kind: type, text: object) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
