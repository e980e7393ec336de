"""The source's rows of a batch: an inverted picture's trajectory, or the trace of the source's own run."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ...core import Level, SourceTrajectory, Trace
from ...errors import InjectionError
from ..host.samplers import SAME_SIGMA


class SourceLatent(NamedTuple):
    """What the source's rows are at one evaluation.

    Attributes:
        place: tells this recording from the others of the same sources, between generations, too.
        level: what the UNet is told.
        latents: (sources, C, H, W), VP scaling.
    """

    place: Hashable
    level: Level
    latents: Tensor


class SourceLatents(Protocol):
    """The rows of the distinct sources of a batch, at each evaluation of the target's sampler."""

    shape: tuple[int, ...]
    """Of the rows: (sources, C, H, W)."""

    start: Tensor | None
    """Where the sampler starts, VP scaling; ``None`` where its own noise is the source's, too."""

    def at(self, evaluation: int, level: Level) -> SourceLatent:
        """The rows at an evaluation, which are numbered from 0, of a level."""

    def coming(self, evaluation: int, levels: Sequence[Level]) -> Iterator[SourceLatent]:
        """The rows at the evaluations that will follow one, as far as is known.

        Args:
            evaluation: the one that is due.
            levels: of the steps that the target's sampler has yet to begin.
        """


class InvertedLatents:
    """Rows of inverted pictures; the level says all."""

    def __init__(self, trajectories: Sequence[SourceTrajectory], device: torch.device) -> None:
        joined = torch.cat([found.latents for found in trajectories], dim=1)
        self._trajectory = SourceTrajectory(trajectories[0].levels, joined.to(device))
        self.start: Tensor | None = self._trajectory.start
        self.shape = tuple(self._trajectory.start.shape)

    def at(self, evaluation: int, level: Level) -> SourceLatent:
        """The rows at a level, held within the trajectory: some samplers raise sigma a little by noise."""
        levels = self._trajectory.levels
        if level.sigma > levels[-1].sigma * (1 - SAME_SIGMA):
            level = levels[-1]
        elif level.sigma < levels[0].sigma:
            level = levels[1]  # levels[0] is the clean latent, which no record pass is given
        return SourceLatent(level, level, self._trajectory.at(level))

    def coming(self, evaluation: int, levels: Sequence[Level]) -> Iterator[SourceLatent]:
        """The rows of the levels; how often a sampler evaluates each does not matter."""
        return (self.at(0, level) for level in levels)


class GeneratedLatents:
    """Rows of traces, each of one picture; they may differ in their levels."""

    start: Tensor | None = None

    def __init__(self, runs: Sequence[Trace], device: torch.device) -> None:
        self._runs = [run.to(device) for run in runs]
        shapes = {tuple(run.latents.shape[2:]) for run in runs}
        if len(shapes) != 1:
            raise InjectionError(f"The sources of one batch have latents of different shapes: {sorted(shapes)}.")
        self.shape = (len(runs), *shapes.pop())

    def at(self, evaluation: int, level: Level) -> SourceLatent:
        """What the UNet of each run was given at this evaluation."""
        found = [run.at(evaluation, level) for run in self._runs]
        place = (level, *(latent.evaluation for latent in found))
        return SourceLatent(place, level, torch.cat([latent.latents.float() for latent in found]))

    def coming(self, evaluation: int, levels: Sequence[Level]) -> Iterator[SourceLatent]:
        """What follows in the first run: the target's sampler is of the same kind, and visits the same levels."""
        following = range(evaluation + 1, len(self._runs[0].levels))
        return (self.at(index, self._runs[0].levels[index]) for index in following)


def require_same_size(x: Tensor, shape: Sequence[int]) -> None:
    """See that a sampler evaluates the whole picture.

    Raises:
        InjectionError: it evaluates a larger or smaller one, as reForge's "Dy" and "SMEA" samplers do between steps.
    """
    if tuple(x.shape[-2:]) != tuple(shape[-2:]):
        raise InjectionError(
            f"This sampler also works on latents of {x.shape[-1]}x{x.shape[-2]}, and the picture's are "
            f"{shape[-1]}x{shape[-2]}; choose a sampler that keeps the size (not a 'Dy' or 'SMEA' one)."
        )


def latents_of(sources: Sequence[SourceTrajectory | Trace], device: torch.device) -> SourceLatents:
    """The rows of a batch's distinct sources, which are all of one kind."""
    runs = [source for source in sources if isinstance(source, Trace)]
    if runs:
        return GeneratedLatents(runs, device)
    return InvertedLatents([source for source in sources if isinstance(source, SourceTrajectory)], device)


class ImageSources:
    """Which source each image of a batch has, and what that makes of rows."""

    def __init__(self, sources: Sequence[int]) -> None:
        """For each image the index of its source; every source has an image."""
        self._sources = sources

    def __len__(self) -> int:
        return len(self._sources)

    def of_rows(self, latents: Tensor) -> Tensor:
        """From one row a source to one row an image."""
        return latents[list(self._sources)]

    def of_sources(self, per_image: Tensor) -> Tensor:
        """From one row an image to one row a source: that of its first image."""
        return per_image[[self._sources.index(source) for source in range(max(self._sources) + 1)]]

    def of_conditions(self, cond: Any, *, whole: bool = False) -> Iterator[int]:
        """The source of each row in the order in which the host's denoiser evaluates them.

        First every image's conditions (several with ``AND``), then the images once, or twice for edit models, without
        a condition; the calls consume them in this order however they are split.

        Args:
            cond: the host's, whose ``batch`` has one list of conditions an image.
            whole: the host evaluates each condition with every image of the batch, in their order.
        """
        if whole:
            return itertools.cycle(self._sources)
        counts = [len(parts) for parts in cond.batch]
        conditional = [source for source, count in zip(self._sources, counts, strict=True) for _ in range(count)]
        return itertools.chain(conditional, itertools.cycle(self._sources))
