"""Replay without the work whose result replay would throw away.

The reference replay lets a layer compute its queries, keys or feature and then replaces them. The shortcuts put
stand-ins in the layers' places for the duration of a replay, so that nothing is computed in vain:

- a *projection* stand-in returns the recorded queries (or keys); the attention kernel stays the one in force;
- a *feature* stand-in skips both convolutions of the residual block; its skip connection remains.

Stand-ins change sums only by floating-point rounding. Where a layer has another form than ldm's or sgm's, or a
region or a blend weight below 1 needs the layer's own values, the reference replay remains.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import TypeAlias

from torch import Tensor, nn

from .replay import Replay
from .sites import Site, SiteKind

_Replacement: TypeAlias = tuple[nn.Module, str, nn.Module]
"""A module, the name of its child, and what stands in for the child."""


class Shortcut(str, Enum):
    """How much of the replaced work is left out.

    REFERENCE: none; hooks replace outputs. The yardstick of the others.
    PROJECTIONS: projections and convolutions are skipped; the host's own attention kernel runs.
    """

    REFERENCE = "reference"
    PROJECTIONS = "projections"


class _RecordedProjection(nn.Module):
    """Stands in for a projection: what was recorded, for as many rows as come in."""

    def __init__(self, replay: Replay, site: Site) -> None:
        super().__init__()
        self._replay, self._site = replay, site
        self._width = replay.bank.recorded(site.name).shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self._replay.stand_in(self._site, (*x.shape[:-1], self._width), x.device)


class _NoFeature(nn.Module):
    """Stands in for a residual block's first half: one zero a row, to which the time embedding is added."""

    def forward(self, x: Tensor) -> Tensor:
        self.size = (x.shape[-2], x.shape[-1])
        return x.new_zeros((x.shape[0], 1, 1, 1))


class _RecordedFeature(nn.Module):
    """Stands in for a residual block's second half: the recorded feature."""

    def __init__(self, replay: Replay, site: Site, first: _NoFeature) -> None:
        super().__init__()
        self._replay, self._site, self._first = replay, site, (first,)  # a tuple, not to register it as a child
        self._channels = replay.bank.recorded(site.name).shape[1]

    def forward(self, x: Tensor) -> Tensor:
        shape = (x.shape[0], self._channels, *self._first[0].size)
        return self._replay.stand_in(self._site, shape, x.device)


@contextmanager
def stand_ins(unet: nn.Module, replay: Replay, shortcut: Shortcut) -> Iterator[None]:
    """Put stand-ins into the places of the replayed sites' layers, and the layers back.

    Nothing is replaced for the reference, nor where the source's values are blended with the layer's own.
    """
    replacements: list[_Replacement] = []
    if shortcut is not Shortcut.REFERENCE:
        for site in filter(replay.replaces, replay.sites.values()):
            replacements += _for_site(unet, site, replay)
    with ExitStack() as stack:
        for owner, child, stand_in in replacements:
            stack.enter_context(_replaced(owner, child, stand_in))
        yield


def _for_site(unet: nn.Module, site: Site, replay: Replay) -> list[_Replacement]:
    """The stand-ins for one site, each with its owner and its name there; none where only the reference will do."""
    path, _, child = site.name.rpartition(".")
    outer_path, _, inner = path.rpartition(".")
    owner, outer = unet.get_submodule(path), unet.get_submodule(outer_path)
    if site.kind is SiteKind.FEATURE:
        if not _plain_residual_block(outer):
            return []
        first = _NoFeature()
        return [(outer, "in_layers", first), (outer, inner, _RecordedFeature(replay, site, first))]
    return [(owner, child, _RecordedProjection(replay, site))]


def _plain_residual_block(block: nn.Module) -> bool:
    """Whether a block computes skip(x) + out_layers(in_layers(x) + embedding), nothing between."""
    unusual = ("use_scale_shift_norm", "updown", "exchange_temb_dims")
    return not any(getattr(block, name, False) for name in unusual) and hasattr(block, "in_layers")


@contextmanager
def _replaced(owner: nn.Module, child: str, stand_in: nn.Module) -> Iterator[None]:
    original = owner._modules[child]
    owner._modules[child] = stand_in
    try:
        yield
    finally:
        owner._modules[child] = original
