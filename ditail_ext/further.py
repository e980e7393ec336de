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


def further_checkpoint(number: int) -> Any:
    """The field that names a further checkpoint."""
    return row(
        str,
        NO_CHECKPOINT,
        f"Aggregate with ({number})",
        f"Ditail aggregate {number}",
        "A further checkpoint of the target's family; in the first steps its latents are merged with the target's, so "
        "that what it draws enters the picture.",
        webui_only=True,
        group=_GROUPS[number][0],
    )


def further_weight(number: int) -> Any:
    """The field with a further checkpoint's share of the merged latents."""
    return share(
        _WEIGHTS[number],
        f"Weight ({number})",
        f"Ditail aggregate {number} weight",
        "Its share of the merged latents; the target has what all further checkpoints leave.",
        neutral=False,
        webui_only=True,
        group=_GROUPS[number][0],
    )


def further_prompt(number: int) -> Any:
    """The field with what a further checkpoint is told."""
    return _prompt(
        number,
        f"Its prompt ({number})",
        "prompt",
        "What it is told; the main prompt, without its networks, if empty. A LoRA named here is this checkpoint's.",
    )


def further_negative_prompt(number: int) -> Any:
    """The field with a further checkpoint's negative prompt."""
    return _prompt(
        number,
        f"Its negative prompt ({number})",
        "negative prompt",
        "Its negative prompt; the main negative prompt if empty.",
    )


def _prompt(number: int, label: str, key: str, help: str) -> Any:
    infotext = f"Ditail aggregate {number} {key}"
    return row(str, "", label, infotext, help, webui_only=True, group=_GROUPS[number][1])
