"""Prompt embeddings: the inversion's mix of positive and negative, equal lengths, rows.

A condition is a tensor (rows, tokens, channels), or a dict of tensors with ``crossattn`` of that shape and,
for SDXL, ``vector`` (rows, channels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ...errors import ConditioningError

Condition: TypeAlias = "Tensor | dict[str, Tensor]"


def mix(
    positive: Condition,
    negative: Condition,
    positive_scale: float,
    negative_scale: float,
    *,
    empty: Condition | None = None,
) -> Condition:
    """The inversion's condition, ``positive_scale * E(positive) - negative_scale * E(negative)``.

    Ditail's alpha and beta (arXiv 2312.08873, section "condition scaling"). Of a dict only ``crossattn`` is
    mixed; everything else, SDXL's ``vector`` above all, is the positive prompt's as it stands, because it feeds
    an MLP that never saw scaled input.

    Args:
        positive: embeddings of the positive prompt.
        negative: embeddings of the negative prompt, of the same kind.
        positive_scale: alpha.
        negative_scale: beta.
        empty: embedding of the empty prompt, to fill up the shorter of two prompts of unequal length.

    Raises:
        ConditioningError: the two are of different kinds or widths, or of lengths that cannot be made equal.
    """
    if isinstance(positive, Tensor) and isinstance(negative, Tensor):
        filler = None if empty is None else _tokens(empty)
        positive, negative = equal_lengths(positive, negative, filler)
        return positive_scale * positive - negative_scale * negative
    if isinstance(positive, dict) and isinstance(negative, dict):
        mixed = mix(_tokens(positive), _tokens(negative), positive_scale, negative_scale, empty=empty)
        return {**positive, "crossattn": _tokens(mixed)}
    raise ConditioningError(
        "The positive and the negative prompt were encoded by different kinds of models; encode both with the "
        "source checkpoint."
    )


def _tokens(cond: Condition) -> Tensor:
    """The (rows, tokens, channels) part of a condition."""
    if isinstance(cond, Tensor):
        return cond
    if "crossattn" not in cond:
        raise ConditioningError("The prompt's embeddings hold no 'crossattn'; this model is not supported.")
    return cond["crossattn"]


def equal_lengths(first: Tensor, second: Tensor, empty: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Fill the shorter of two embeddings up with encoded-empty chunks, as the text encoder would.

    Args:
        first: (rows, tokens, channels).
        second: (rows, tokens, channels), the same width.
        empty: (1, chunk, channels), the embedding of the empty prompt; needed when the lengths differ.

    Raises:
        ConditioningError: widths differ, or the lengths differ by something that is not whole chunks.
    """
    if first.shape[-1] != second.shape[-1]:
        raise ConditioningError(
            f"Prompt embeddings of width {first.shape[-1]} and {second.shape[-1]} cannot be mixed; encode both "
            "prompts with the same checkpoint."
        )
    length = max(first.shape[1], second.shape[1])
    return _fill(first, length, empty), _fill(second, length, empty)


def _fill(tokens: Tensor, length: int, empty: Tensor | None) -> Tensor:
    missing = length - tokens.shape[1]
    if missing == 0:
        return tokens
    if empty is None or missing % empty.shape[1]:
        raise ConditioningError(
            f"Prompts of {tokens.shape[1]} and {length} tokens cannot be made equally long; shorten the longer prompt."
        )
    chunks = empty[:1].to(tokens).expand(tokens.shape[0], -1, -1)
    return torch.cat([tokens, *[chunks] * (missing // empty.shape[1])], dim=1)


def expand_rows(cond: Condition, rows: int) -> Condition:
    """A condition of one row for ``rows`` rows (one of that many rows stays as it is).

    Raises:
        ConditioningError: it has neither 1 nor ``rows`` rows.
    """

    def expand(tensor: Tensor) -> Tensor:
        if tensor.shape[0] not in (1, rows):
            raise ConditioningError(
                f"There are embeddings of {tensor.shape[0]} prompts for {rows} pictures; give one prompt, or one "
                "for each picture."
            )
        return tensor.expand(rows, *tensor.shape[1:])

    return map_tensors(cond, expand)


def join_rows(conds: Sequence[Condition], empty: Condition | None = None) -> Condition:
    """Conditions one after another along the rows, filled up to equal length."""
    if all(isinstance(cond, Tensor) for cond in conds):
        return torch.cat(_same_length([_tokens(cond) for cond in conds], empty))
    if not all(isinstance(cond, dict) for cond in conds):
        raise ConditioningError("Prompt embeddings of different kinds of models cannot share one UNet call.")
    joined = {
        key: torch.cat([cond[key] for cond in conds if isinstance(cond, dict)])
        for key in conds[0]
        if key != "crossattn"
    }
    return {**joined, "crossattn": torch.cat(_same_length([_tokens(cond) for cond in conds], empty))}


def _same_length(parts: Sequence[Tensor], empty: Condition | None) -> list[Tensor]:
    length = max(part.shape[1] for part in parts)
    filler = None if empty is None else _tokens(empty)
    return [_fill(part, length, filler) for part in parts]


def map_tensors(cond: Condition, function: Callable[[Tensor], Tensor]) -> Condition:
    """Apply a function to every tensor of a condition."""
    if isinstance(cond, Tensor):
        return function(cond)
    return {key: function(value) for key, value in cond.items()}
