"""The inversion's prompts, and the condition that the source makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modules import shared
from modules.processing_scripts.comments import strip_comments

from ...core import Condition, mix
from ...settings import Settings
from ..host.model import encode_prompt
from ..host.tags import check_tags, strip_tags


@dataclass(frozen=True)
class InversionPrompts:
    """What the source is told about one picture.

    Attributes:
        positive: without tags of networks.
        negative: without tags of networks.
        tags: the networks, by kind, that the *inversion* prompts ask for; the main prompts' are the target's.
        tag_text: the same as text, for telling requests apart.
    """

    positive: str
    negative: str
    tags: Mapping[str, Sequence[Any]]
    tag_text: str

    @property
    def told(self) -> tuple[str, str, str]:
        """What the source is told, as one value."""
        return self.positive, self.negative, self.tag_text


def inversion_prompts(settings: Settings, prompt: str, negative_prompt: str) -> InversionPrompts:
    """The inversion's prompts for an image with these main prompts."""
    positive, tags = _prompt(settings.inversion_prompt, prompt)
    negative, more_tags = _prompt(settings.inversion_negative_prompt, negative_prompt)
    tags = {kind: [*tags.get(kind, ()), *more_tags.get(kind, ())] for kind in {*tags, *more_tags}}
    check_tags(tags)
    text = repr(sorted((kind, [params.items for params in found]) for kind, found in tags.items()))
    return InversionPrompts(positive, negative, tags, text)


def _prompt(own: str, main: str) -> tuple[str, Mapping[str, Sequence[Any]]]:
    text, tags = strip_tags(own if own.strip() else main)
    if getattr(shared.opts, "enable_prompt_comments", False):
        text = strip_comments(text)
    return text.strip(), tags if own.strip() else {}


def inversion_condition(
    model: Any, prompts: InversionPrompts, settings: Settings, *, width: int, height: int, steps: int
) -> Condition:
    """The scaled mix of the two prompts' embeddings, with the source loaded and its networks active."""

    def encode(text: str, *, negative: bool) -> Condition:
        return encode_prompt(model, text, negative=negative, width=width, height=height, steps=steps)

    positive, negative = encode(prompts.positive, negative=False), encode(prompts.negative, negative=True)
    empty = encode("", negative=True)
    return mix(positive, negative, settings.positive_scale, settings.negative_scale, empty=empty)


def condition_of(model: Any, prompt: str, *, width: int, height: int) -> Condition:
    """The embedding of one prompt alone, as a model that is at work encodes it."""
    return encode_prompt(model, prompt, negative=False, width=width, height=height, steps=1)
