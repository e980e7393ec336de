"""What the aggregation bench compares: from which start, with which window and weight, with or without injection."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ditail_ext.settings import TABLE


class Start(str, Enum):
    """Where the target begins, and what the content is."""

    NOISE = "noise of the source's own picture"
    INVERTED = "inverted drawing"


class Rule(str, Enum):
    """How the latents are merged."""

    SLERP = "slerp"
    RELEASED = "released rule with pull,"


@dataclass(frozen=True)
class Run:
    """The source's latents merged into the target's after each of the first steps, of 20.

    `windows` are the numbers of these steps: runs that differ in nothing else share their first steps, and each gives
    a point. No windows: no aggregation. `weight` is the source's share of the merged latent, `full` the ratio of both
    of the injection's windows with the full layer profile, `default` injects with the paper's layers and ratios; no
    injection where neither is said.
    """

    windows: tuple[int, ...] = ()
    weight: float = 0.0
    rule: Rule = Rule.SLERP
    full: float = 0.0
    default: bool = False

    @property
    def injection(self) -> tuple[str, float, float] | None:
        """Layer profile, feature ratio and attention ratio of what is injected, if anything is."""
        if self.full:
            return "full", self.full, self.full
        names = ("layer_profile", "feature_ratio", "attention_ratio")
        return tuple(TABLE[name].default for name in names) if self.default else None

    @property
    def kind(self) -> str:
        """The curve that its points belong to."""
        injected = f"injection, {'full' if self.full else 'default'} layers" if self.injection else ""
        if not self.windows:
            return injected or "target alone"
        return " + ".join(part for part in (f"{self.rule.value} {self.weight:g}", injected) if part)

    def value(self, window: int) -> str:
        """What varies along the curve."""
        ratio = f"ratio {self.full:g}" if self.full else ""
        return ", ".join(part for part in (f"window {window}" if window else "", ratio) if part)


RUNS = {
    "noise": (
        Start.NOISE,
        (Run(), Run(full=0.6), Run((2, 4, 8), 0.5), Run((4,), 0.7), Run((4,), 0.5, full=0.4)),
    ),
    "inverted": (Start.INVERTED, (Run(), Run(full=0.4), Run((2, 4), 0.5))),
    "noise-default": (Start.NOISE, (Run(default=True),)),
    "inverted-default": (Start.INVERTED, (Run(default=True),)),
    "noise-more": (
        Start.NOISE,
        (Run(full=0.4), Run((4, 8), 0.3), Run((2,), 0.7), Run((4,), 0.5, Rule.RELEASED)),
    ),
    "inverted-more": (Start.INVERTED, (Run((8,), 0.5), Run((4,), 0.3), Run((4,), 0.7), Run((4,), 0.5, full=0.4))),
}
"""Sets of runs, in the order in which they are measured; each with its start."""
