"""Replay without the work whose result replay would throw away.

The reference replay lets a layer compute its queries, keys or feature and then replaces them. The shortcuts put
stand-ins in the layers' places for the duration of a replay, so that nothing is computed in vain:

- a *projection* stand-in returns the recorded queries (or keys); the attention kernel stays the one in force;
- a *shared map* stand-in for the whole self-attention: recorded queries and keys are the same in all rows of a
  source, so one softmax(q k^T) serves them all, applied to their values side by side;
- a *feature* stand-in skips both convolutions of the residual block; its skip connection remains.

Stand-ins change sums only by floating-point rounding. Where a layer has another form than ldm's or sgm's, or a
region or a blend weight below 1 needs the layer's own values, the reference replay remains.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .replay import Replay
from .sites import Site, SiteKind

_Replacement: TypeAlias = tuple[nn.Module, str, nn.Module]
"""A module, the name of its child, and what stands in for the child."""

_MAP_CHUNK_BYTES = 64 * 2**20
"""Of the attention map in memory at a time, in the shared-map attention."""


class Shortcut(str, Enum):
    """How much of the replaced work is left out.

    REFERENCE: none; hooks replace outputs. The yardstick of the others.
    PROJECTIONS: projections and convolutions are skipped; the host's own attention kernel runs.
    SHARED_MAP: the attention map is computed once for all rows of a source, too; not in bfloat16, where that would
        round otherwise by more than 1 %.
    """

    REFERENCE = "reference"
    PROJECTIONS = "projections"
    SHARED_MAP = "shared map"


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


class _SharedMapAttention(nn.Module):
    """Stands in for a self-attention: one map for the rows of each source, applied to all their values."""

    def __init__(self, replay: Replay, query: Site, key: Site, attention: Any) -> None:
        super().__init__()
        self._replay, self._sites, self._original = replay, (query, key), (attention,)

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        attention = self._original[0]
        value = attention.to_v(x)
        query, key = (self._recorded(site, value) for site in self._sites)
        sources = self._replay.sources
        if sources is None:
            out = shared_map_attention(query[0], key[0], value, attention.heads)
        else:
            out = torch.empty_like(value)
            for source in sources.unique().tolist():
                rows = (sources == source).nonzero().flatten().to(value.device)
                out[rows] = shared_map_attention(query[source], key[source], value[rows], attention.heads)
        return attention.to_out(out)

    def _recorded(self, site: Site, value: Tensor) -> Tensor:
        """All sources' recording of a site, checked against the rows and noted as used."""
        bank = self._replay.bank
        bank.for_rows(site.name, (*value.shape[:-1], bank.recorded(site.name).shape[-1]), self._replay.sources)
        self._replay.unused.discard(site.name)
        return bank.recorded(site.name).to(value)


def shared_map_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attention whose queries and keys are the same in all rows.

    Args:
        query: (n, heads * d).
        key: (n, heads * d).
        value: (rows, n, heads * d).
        heads: the number of heads.

    Returns:
        (rows, n, heads * d).
    """
    rows, tokens, width = value.shape
    depth = width // heads
    q = query.view(tokens, heads, depth).transpose(0, 1) * depth**-0.5
    k = key.view(tokens, heads, depth).permute(1, 2, 0)
    v = value.view(rows, tokens, heads, depth).permute(2, 1, 0, 3).reshape(heads, tokens, rows * depth)
    out = value.new_empty(heads, tokens, rows * depth)
    step = max(1, _MAP_CHUNK_BYTES // (heads * tokens * max(4, value.element_size())))
    for begin in range(0, tokens, step):
        chunk = slice(begin, begin + step)
        out[:, chunk] = torch.bmm(torch.bmm(q[:, chunk], k).softmax(dim=-1, dtype=torch.float32).to(v.dtype), v)
    return out.view(heads, tokens, rows, depth).permute(2, 1, 0, 3).reshape(rows, tokens, width)


@contextmanager
def stand_ins(unet: nn.Module, replay: Replay, shortcut: Shortcut) -> Iterator[None]:
    """Put stand-ins into the places of the replayed sites' layers, and the layers back.

    Nothing is replaced for the reference, nor where the source's values are blended with the layer's own.
    """
    replacements: list[_Replacement] = []
    if shortcut is not Shortcut.REFERENCE:
        for site in filter(replay.replaces, replay.sites.values()):
            replacements += _for_site(unet, site, replay, shortcut)
    with ExitStack() as stack:
        for owner, child, stand_in in replacements:
            stack.enter_context(_replaced(owner, child, stand_in))
        yield


def _for_site(
    unet: nn.Module, site: Site, replay: Replay, shortcut: Shortcut
) -> list[tuple[nn.Module, str, nn.Module]]:
    """The stand-ins for one site, each with its owner and its name there; none where only the reference will do."""
    path, _, child = site.name.rpartition(".")
    outer_path, _, inner = path.rpartition(".")
    owner, outer = unet.get_submodule(path), unet.get_submodule(outer_path)
    if site.kind is SiteKind.FEATURE:
        if not _plain_residual_block(outer):
            return []
        first = _NoFeature()
        return [(outer, "in_layers", first), (outer, inner, _RecordedFeature(replay, site, first))]
    # in bfloat16 sums in another order would move the latents as far as the precision itself does
    rounds_coarsely = replay.bank.recorded(site.name).dtype == torch.bfloat16
    if shortcut is Shortcut.PROJECTIONS or rounds_coarsely or not hasattr(owner, "heads"):
        return [(owner, child, _RecordedProjection(replay, site))]
    if site.kind is SiteKind.KEY:
        return []  # the stand-in of its query covers both
    return [(outer, inner, _SharedMapAttention(replay, site, replay.sites[f"{path}.to_k"], owner))]


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
