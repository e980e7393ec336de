"""Record passes of several levels in one UNet call.

The source's latents of all levels are known before the target begins, so nothing but memory ties a record pass to its
step. A GPU is not filled by one row of a small picture: there several levels at once cost less than one after the
other. On a CPU they do not, and each is recorded when it is due.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ..injection import FeatureBank, Injection
from ..levels import Level, Levels
from .bank_cache import BankSlot
from .device_memory import is_out_of_memory

logger = logging.getLogger("ditail")

FULL_CALL = 8 * 64 * 64
"""Latent positions with which a UNet call fills a GPU: eight rows of 512x512 pixels, or two of 1024x1024."""

ROW_BYTES = 128
"""Memory of a row being recorded, for each latent position and model channel (measured on a CPU in float32: SD1.5 at
512x512 needs 160 MiB a row, its recording included)."""

SHARE_OF_FREE = 4
"""Of the free memory, one part in so many may be taken to record ahead."""


@dataclass(frozen=True)
class SourcePass:
    """One recording that a run needs.

    Attributes:
        step: index of the sampler's step.
        level: what the UNet is told.
        latents: the source's rows at this level, (sources, C, H, W), VP scaling.
        place: tells the recording from the others of the same run; the level where ``None``.
    """

    step: int
    level: Level
    latents: Tensor
    place: Hashable = None

    @property
    def key(self) -> Hashable:
        """What the recording is looked up by."""
        return self.level if self.place is None else self.place


RunSource = Callable[[Tensor, Levels], object]
"""Passes rows (n, C, H, W), of one level or of one each, through the target's UNet with the empty prompt."""


class SourceRecorder:
    """Has a bank for every evaluation: kept from an earlier run, recorded before its turn, or recorded now.

    Where the injection does not record every step, a step between has the bank of the evaluation before it, also
    where one of its own is kept: what comes out must not depend on what happens to be in memory. If a window has just
    begun, the step is recorded all the same, even where that bank was kept by a run whose window was open before.
    """

    def __init__(
        self,
        injection: Injection,
        run: RunSource,
        slots: Callable[[Hashable], BankSlot] | None = None,
        most_rows: Callable[[Tensor], int] | None = None,
    ) -> None:
        """
        Args:
            injection: entered.
            run: passes the source's rows; broken off after the last needed value.
            slots: where recordings are kept between runs, by place.
            most_rows: given the rows of one level, how many rows a call may have now; one level at a time if ``None``.
        """
        self._injection = injection
        self._run = run
        self._slots = slots
        self._most_rows = most_rows
        self._recorded: dict[Hashable, tuple[int, FeatureBank]] = {}
        self._last: tuple[set[str], FeatureBank] | None = None
        self._limit: int | None = None

    def bank(self, due: SourcePass, coming: Iterable[SourcePass] = ()) -> FeatureBank | None:
        """The bank to replay at an evaluation.

        Args:
            due: the recording that it needs.
            coming: those that will follow, in order; looked at only as far as they are recorded along.

        Returns:
            ``None`` when no window is open.

        Raises:
            InjectionError: the source's pass went by some of the sites.
        """
        names = self._names(due)
        self._recorded = {key: found for key, found in self._recorded.items() if found[0] >= due.step}
        if not names:
            self._last = None
            return None
        if self._last is not None and not self._injection.is_recorded(due.step) and names <= self._last[0]:
            return self._last[1]
        kept = self._find(due, names)
        bank = self._record_with(due, names, coming) if kept is None else kept
        self._last = names, bank
        return bank

    def _record_with(self, due: SourcePass, names: set[str], coming: Iterable[SourcePass]) -> FeatureBank:
        own = (source for source in coming if self._injection.is_recorded(source.step))
        self._record([due, *self._along(due, names, own)])
        return self._recorded[due.key][1]

    def _names(self, source: SourcePass) -> set[str]:
        return {site.name for site in self._injection.active_sites(source.step)}

    def _find(self, due: SourcePass, names: set[str]) -> FeatureBank | None:
        _, bank = self._recorded.get(due.key, (0, None))
        if bank is None and self._slots is not None:
            bank = self._slots(due.key).get()
        return bank if bank is not None and all(name in bank for name in names) else None

    def _along(self, due: SourcePass, names: set[str], coming: Iterable[SourcePass]) -> list[SourcePass]:
        """The next ones, as many as fit into the call, of the same sites and not yet recorded."""
        if self._most_rows is None:
            return []
        most = self._most_rows(due.latents) // due.latents.shape[0]
        most = most if self._limit is None else min(most, self._limit)
        along: list[SourcePass] = []
        for following in islice(coming, max(most - 1, 0)):
            if self._names(following) != names or self._is_there(following, names):
                break
            along.append(following)
        return along

    def _is_there(self, following: SourcePass, names: set[str]) -> bool:
        return following.key in self._recorded or (self._slots is not None and self._slots(following.key).holds(names))

    def _record(self, group: Sequence[SourcePass]) -> None:
        """Record a group, or as much of its beginning as there is memory for."""
        banks = self._passed_or_none(group)
        while banks is None:
            self._limit = len(group) // 2
            logger.info("There is no memory to record %d levels at once; going on with %d.", len(group), self._limit)
            group = group[: self._limit]
            banks = self._passed_or_none(group)
        for source, bank in zip(group, banks, strict=True):
            self._recorded[source.key] = (source.step, bank)
            if self._slots is not None:
                self._slots(source.key).put(bank)

    def _passed_or_none(self, group: Sequence[SourcePass]) -> list[FeatureBank] | None:
        """Their banks; ``None`` if there was no memory for several, and what was taken of it is free again."""
        try:
            return self._passed(group)
        except (RuntimeError, MemoryError) as error:
            if len(group) == 1 or not is_out_of_memory(error):
                raise
            return None

    def _passed(self, group: Sequence[SourcePass]) -> list[FeatureBank]:
        rows = torch.cat([source.latents for source in group])
        each = [source.level for source in group for _ in range(source.latents.shape[0])]
        levels: Levels = group[0].level if len(group) == 1 else each
        return self._injection.record([source.step for source in group], lambda: self._run(rows, levels))


def rows_worth_a_call(latents: Tensor, channels: int, free: int) -> int:
    """How many rows to record in one call on a GPU: as many as fill it, if a part of the free memory is enough.

    Args:
        latents: rows like those to be recorded, (n, C, H, W).
        channels: the UNet's ``model_channels``.
        free: bytes.
    """
    positions = latents.shape[-2] * latents.shape[-1]
    fitting = free // SHARE_OF_FREE // (ROW_BYTES * positions * channels)
    return max(1, min(FULL_CALL // positions, fitting))
