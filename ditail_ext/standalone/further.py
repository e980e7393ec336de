"""What the command line says of further checkpoints, whose latents are merged with the target's in the first steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingsError

MOST = 3
"""Further checkpoints beside the target."""
WEIGHT = 0.5
"""Of all further checkpoints together, unless given."""
RATIO = 0.2
"""Share of the steps that are merged, unless given."""


@dataclass(frozen=True)
class Further:
    """One further checkpoint: its file, its share of the merged latent, and its prompts (the main ones if empty)."""

    checkpoint: Path
    weight: float
    prompt: str = ""
    negative_prompt: str = ""


@dataclass(frozen=True)
class Aggregated:
    """What is merged, and in which share of the steps.

    Attributes:
        models: one to three, in the order they were named.
        ratio: share of the steps, counted from the first, at which merging ends.
        start: share of the steps that pass before it begins.
    """

    models: tuple[Further, ...]
    ratio: float = RATIO
    start: float = 0.0

    @classmethod
    def of(
        cls,
        checkpoints: Sequence[Path],
        weights: Sequence[float],
        prompts: Sequence[str],
        negative_prompts: Sequence[str],
        window: tuple[float | None, float | None],
    ) -> Aggregated | None:
        """What the options say; ``None`` where no checkpoint is named.

        Raises:
            SettingsError: options without a checkpoint, too many checkpoints, or not one weight or prompt for each.
        """
        count = len(checkpoints)
        given = {"weight": weights, "prompt": prompts, "negative-prompt": negative_prompts}
        if not count:
            alone = [name for name, values in given.items() if values]
            alone += [name for name, value in zip(("ratio", "start"), window, strict=True) if value is not None]
            if alone:
                raise SettingsError(
                    alone[0], f"--aggregate-{alone[0]} means nothing alone; name a checkpoint with --aggregate."
                )
            return None
        if count > MOST:
            raise SettingsError("aggregate", f"--aggregate may be given {MOST} times, not {count}; leave some out.")
        for name, values in given.items():
            if values and len(values) != count:
                raise SettingsError(
                    name,
                    f"--aggregate-{name} is given {len(values)} times for {count} checkpoints; give one for each, "
                    "in the same order.",
                )
        filled = (weights or [WEIGHT / count] * count, prompts or [""] * count, negative_prompts or [""] * count)
        ratio, start = (own if given is None else given for given, own in zip(window, (RATIO, 0.0), strict=True))
        return cls(tuple(map(Further, checkpoints, *filled)), ratio, start)

    def infotext(self, titles: Sequence[str]) -> dict[str, object]:
        """Keys and values for a picture's parameters; ``titles`` are name and hash of each checkpoint."""
        fields: dict[str, object] = {}
        for number, (own, title) in enumerate(zip(self.models, titles, strict=True), 1):
            fields[f"Ditail aggregate {number}"] = title
            fields[f"Ditail aggregate {number} weight"] = own.weight
            if own.prompt:
                fields[f"Ditail aggregate {number} prompt"] = own.prompt
            if own.negative_prompt:
                fields[f"Ditail aggregate {number} negative prompt"] = own.negative_prompt
        return fields | {"Ditail aggregation start": self.start, "Ditail aggregation ratio": self.ratio}
