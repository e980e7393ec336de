"""Rows of the table of settings for a further checkpoint, whose latents are merged with the target's (AMDM)."""

from __future__ import annotations

from typing import Any

from .setting import NO_CHECKPOINT, Group, row, share

_GROUPS = {
    1: (Group.AGGREGATE_1, Group.AGGREGATE_1_PROMPTS),
    2: (Group.AGGREGATE_2, Group.AGGREGATE_2_PROMPTS),
    3: (Group.AGGREGATE_3, Group.AGGREGATE_3_PROMPTS),
}
_WEIGHTS = {1: 0.5, 2: 0.2, 3: 0.2}
"""Of one alone as much as the target's (docs/aggregation.md has what that was chosen on); of three the target has a
tenth."""


_ORDINALS = {1: "first", 2: "second", 3: "third"}


def further_checkpoint(number: int) -> Any:
    """The field that names a further checkpoint."""
    first = (
        "A further checkpoint of the target's family; in the first steps its latents are merged with the target's, so "
        "that what it draws enters the picture."
    )
    return row(
        str,
        NO_CHECKPOINT,
        f"Aggregate with ({number})",
        f"Ditail aggregate {number}",
        first if number == 1 else f"A {_ORDINALS[number]} checkpoint whose latents are merged, as the first's.",
        webui_only=True,
        group=_GROUPS[number][0],
    )


def further_weight(number: int) -> Any:
    """The field with a further checkpoint's share of the merged latents."""
    return share(
        _WEIGHTS[number],
        f"Weight ({number})",
        f"Ditail aggregate {number} weight",
        f"The {_ORDINALS[number]} one's share of the merged latents; the target has what all further ones leave.",
        webui_only=True,
        group=_GROUPS[number][0],
    )


def further_prompt(number: int) -> Any:
    """The field with what a further checkpoint is told."""
    told = f"What the {_ORDINALS[number]} further checkpoint is told; the main prompt, without its networks, if empty."
    return _prompt(number, f"Its prompt ({number})", "prompt", f"{told} A LoRA named here is this checkpoint's.")


def further_negative_prompt(number: int) -> Any:
    """The field with a further checkpoint's negative prompt."""
    told = f"The {_ORDINALS[number]} further checkpoint's negative prompt; the main negative prompt if empty."
    return _prompt(number, f"Its negative prompt ({number})", "negative prompt", told)


def _prompt(number: int, label: str, key: str, help: str) -> Any:
    infotext = f"Ditail aggregate {number} {key}"
    return row(str, "", label, infotext, help, webui_only=True, group=_GROUPS[number][1])
