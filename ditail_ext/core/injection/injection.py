"""Record the source's features in the target UNet, replay them into the rows being generated.

Each sampling step has a *record* pass (the source latent of that level through the target UNet) and then the
host's own UNet calls in *replay*. The two meet only in the bank, so replay does not care how the host lays
its rows out: conditional and unconditional together or apart, one picture or several.

Nothing is rewritten: forward hooks on projections and on a convolution read and replace outputs. They survive
every attention backend and LoRA, and are gone when the context ends, however it ends. ``shortcuts`` leaves out the
work whose result would be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...errors import InjectionError
from ..levels import Window
from .bank import FeatureBank
from .region import Region
from .replay import Replay
from .shortcuts import Shortcut, stand_ins
from .sites import DEFAULT_PROFILE, LayerProfile, Site, SiteKind, find_sites
from .surroundings import ALONE, Surroundings


class _RecordingComplete(BaseException):
    """Ends the source's forward pass once the last needed value is there.

    Not an ``Exception``, so that no handler on the way takes it for a failure.
    """


class _Phase(Protocol):
    def handle(self, site: Site, output: Tensor) -> Tensor | None:
        """What a site's output becomes; ``None`` leaves it."""


@dataclass
class _Recording:
    banks: Sequence[FeatureBank]
    missing: set[str]

    def handle(self, site: Site, output: Tensor) -> None:
        if site.name in self.missing:
            if output.shape[0] % len(self.banks):
                raise InjectionError(
                    f"{site.name} computed {output.shape[0]} rows for {len(self.banks)} levels; another extension "
                    "changes the batch: switch it off."
                )
            for bank, rows in zip(self.banks, output.chunk(len(self.banks)), strict=True):
                bank.store(site.name, rows)
            self.missing.discard(site.name)
            if not self.missing:
                raise _RecordingComplete


class Injection:
    """A context in which a UNet records source passes and replays them.

    ::

        with Injection(unet, feature_window=..., attention_window=...) as injection:
            for step, level in enumerate(levels):
                (bank,) = injection.record([step], lambda: predict_noise(trajectory.at(level), level, empty))
                with injection.replay(step, bank):
                    epsilon = predict_noise(rows, level, conds)

    Outside both the UNet computes what it always did.
    """

    def __init__(
        self,
        unet: nn.Module,
        *,
        feature_window: Window,
        attention_window: Window,
        feature_weight: float = 1.0,
        attention_weight: float = 1.0,
        profile: str | LayerProfile = DEFAULT_PROFILE,
        region: Region | None = None,
        shortcut: Shortcut = Shortcut.REFERENCE,
        record_every: int = 1,
        surroundings: Surroundings = ALONE,
    ) -> None:
        """Find the sites; nothing is touched before the context is entered.

        Args:
            unet: the target's UNet, of ldm's or sgm's layout.
            feature_window: the steps in which the residual feature is injected.
            attention_window: the steps in which self-attention queries and keys are.
            feature_weight: blend weight w of the feature, from 0 to 1: each row gets w * source + (1 - w) * own.
            attention_weight: the same of queries and keys. With a weight of 0 nothing is recorded either.
            profile: a layer profile of the UNet's family by name, or a custom one.
            region: injects only there; everywhere if ``None``.
            shortcut: how much of the replaced work is left out.
            record_every: 1 records each step, as the method has it; with n the steps between the n-th ones replay
                the recording before them, which costs one record pass in n.
            surroundings: what others do with tokens and passes where it replays.

        Raises:
            UnsupportedModelError: the UNet has no such sites.
            InjectionError: a blend weight lies outside 0..1, or the steps are to be recorded less than never.
        """
        self._sites = find_sites(unet, profile)
        self._unet = unet
        self._shortcut = Shortcut(shortcut)
        self._windows = {
            SiteKind.FEATURE: feature_window,
            SiteKind.QUERY: attention_window,
            SiteKind.KEY: attention_window,
        }
        self._weights = {
            SiteKind.FEATURE: _blend_weight(feature_weight),
            SiteKind.QUERY: _blend_weight(attention_weight),
            SiteKind.KEY: _blend_weight(attention_weight),
        }
        if record_every < 1:
            raise InjectionError(f"Every how many steps to record must be 1 or more, not {record_every}.")
        self._record_every = record_every
        self._region, self._surroundings = region, surroundings
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._phase: _Phase | None = None

    def __enter__(self) -> Injection:
        if self._handles:
            raise RuntimeError("this injection is already entered")
        try:
            for site in self._sites:
                self._handles.append(site.module.register_forward_hook(self._hook_for(site)))
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    @property
    def sites(self) -> tuple[Site, ...]:
        """All sites of the profile, in the order of a forward pass."""
        return self._sites

    def active_sites(self, step: int) -> tuple[Site, ...]:
        """The sites whose window is open at a step (0 is the first, noisiest one), less those of weight 0."""
        open_kinds = {kind for kind, window in self._windows.items() if step in window and self._weights[kind] > 0.0}
        return tuple(site for site in self._sites if site.kind in open_kinds)

    def is_recorded(self, step: int) -> bool:
        """Whether a step has a recording of its own, and not that of the step before it."""
        return step % self._record_every == 0

    def record(self, steps: Sequence[int], run: Callable[[], Any]) -> list[FeatureBank]:
        """Record what the source's pass computes at the active sites of one step, or of several in one call.

        Args:
            steps: indices of the sampler's steps, at which the same sites are active, and some are.
            run: passes the source latents of these steps' levels, one step's rows after the other's and one row a
                source picture, with the empty prompt, through the target UNet. It is broken off after the last
                needed value; what it would have returned is not used.

        Returns:
            One bank a step, for :meth:`replay`.

        Raises:
            InjectionError: the pass went by some of the sites, or had other rows.
        """
        self._require_entered()
        names = {site.name for site in self.active_sites(steps[0])}
        if not names or any({site.name for site in self.active_sites(step)} != names for step in steps):
            raise ValueError(f"steps {list(steps)} have not the same active sites, or none")
        recording = _Recording([FeatureBank() for _ in steps], set(names))
        with self._in_phase(recording):
            try:
                run()
            except _RecordingComplete:
                return list(recording.banks)
        raise InjectionError(
            f"The source pass did not reach {len(recording.missing)} of {len(names)} layers "
            f"(the first: {min(recording.missing)}); another extension or option replaces the UNet: switch it off."
        )

    @contextmanager
    def replay(self, step: int, bank: FeatureBank | None, sources: Sequence[int] | None = None) -> Iterator[None]:
        """Replace the active sites' outputs in every UNet call made within.

        Args:
            step: index of the sampler's step.
            bank: what was recorded for it; ``None`` where no window is open.
            sources: for each row of the call the index of its source picture. May be left out when there is one
                source picture; then calls may have any number of rows.

        Raises:
            InjectionError: windows are open and nothing was recorded, or a call left out some of the sites.
        """
        self._require_entered()
        active = {site.name: site for site in self.active_sites(step)}
        if bank is None:
            if active:
                raise InjectionError(f"Step {step} was not recorded; record it before replaying it.")
            bank = FeatureBank()
        rows = None if sources is None else torch.as_tensor(sources, dtype=torch.long)
        replay = Replay(bank, active, rows, self._region, self._weights, self._surroundings)
        with self._in_phase(replay), stand_ins(self._unet, replay, self._shortcut):
            yield
        replay.require_used()

    def _hook_for(self, site: Site) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            return None if self._phase is None else self._phase.handle(site, output)

        return hook

    @contextmanager
    def _in_phase(self, phase: _Phase) -> Iterator[None]:
        if self._phase is not None:
            raise RuntimeError("record and replay cannot be nested")
        self._phase = phase
        try:
            yield
        finally:
            self._phase = None

    def _require_entered(self) -> None:
        if not self._handles:
            raise RuntimeError("the injection must be entered before it records or replays")

    def _release(self) -> None:
        self._phase = None
        while self._handles:
            self._handles.pop().remove()


def _blend_weight(weight: float) -> float:
    if not 0.0 <= weight <= 1.0:
        raise InjectionError(f"A blend weight must be from 0 (own) to 1 (source), not {weight}.")
    return weight
