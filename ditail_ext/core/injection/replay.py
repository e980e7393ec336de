"""One replay: which sites, from which bank, into whose rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...errors import InjectionError
from .bank import FeatureBank
from .region import Region
from .sites import Site, SiteKind
from .surroundings import ALONE, Surroundings, Tiles


@dataclass
class Replay:
    """What a step's UNet calls take from the source.

    Attributes:
        bank: the step's recording.
        sites: the sites to replay, by name.
        sources: for each row of a call the index of its source picture, (rows,); ``None`` for one source.
        region: where to inject; everywhere if ``None``.
        weights: of the source's values by kind, from 0 to 1; the rest is the row's own. 1 where none is given.
        surroundings: what others do with tokens and passes.
        unused: the sites that no call has reached yet.
    """

    bank: FeatureBank
    sites: Mapping[str, Site]
    sources: Tensor | None
    region: Region | None
    weights: Mapping[SiteKind, float] = field(default_factory=dict)
    surroundings: Surroundings = ALONE
    unused: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.unused = set(self.sites)

    def replaces(self, site: Site) -> bool:
        """Whether nothing of a site's own output remains, so that it need not be computed."""
        return self.region is None and self._weight(site) == 1.0

    def handle(self, site: Site, output: Tensor) -> Tensor | None:
        """What stands in the place of a site's output; ``None`` leaves it."""
        if site.name not in self.sites or not self.surroundings.is_own():
            return None
        self.unused.discard(site.name)
        tiles = self._tiles(site)
        return self._replaced(site, output) if tiles is None else tiles.cut(self._replaced(site, tiles.whole(output)))

    def _replaced(self, site: Site, output: Tensor) -> Tensor:
        if self.surroundings.further and site.kind is SiteKind.KEY:
            own = self.bank.recorded(site.name).shape[1]
            if output.shape[1] > own:
                return torch.cat([self._blended(site, output[:, :own]), output[:, own:]], dim=1)
        return self._blended(site, output)

    def _blended(self, site: Site, output: Tensor) -> Tensor:
        sources = self._sources_of(output.shape[0])
        recorded = self.bank.for_rows(site.name, tuple(output.shape), sources)
        source = torch.empty_like(output).copy_(recorded)
        if self.replaces(site):
            return source
        weight = self._weight(site)
        if self.region is not None:
            return self.region.blend(output, source, sources, weight)
        return weight * source + (1.0 - weight) * output

    def stand_in(self, site: Site, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """A site's value for rows of a shape without its own output, in the recorded precision."""
        self.unused.discard(site.name)
        tiles = self._tiles(site)
        if tiles is None:
            return self.bank.for_rows(site.name, shape, self.sources).to(device, copy=True).contiguous()
        rows, tokens, channels = shape
        whole = self.bank.for_rows(site.name, (rows // tiles.count, tokens * tiles.count, channels), self.sources)
        return tiles.cut(whole).to(device, copy=True).contiguous()

    def _tiles(self, site: Site) -> Tiles | None:
        return None if site.kind is SiteKind.FEATURE else self.surroundings.tiles(site.name)

    def _sources_of(self, count: int) -> Tensor | None:
        """For each row that a layer was given the index of its source; all of the call's, or those that are known."""
        if self.sources is None or len(self.sources) == count:
            return self.sources
        rows = self.surroundings.rows(count)
        return self.sources if rows is None else self.sources[list(rows)]

    def _weight(self, site: Site) -> float:
        return self.weights.get(site.kind, 1.0)

    def require_used(self) -> None:
        """See that every site was reached.

        Raises:
            InjectionError: some were not: the UNet's layers were gone by.
        """
        if self.unused:
            raise InjectionError(
                f"{len(self.unused)} of {len(self.sites)} layers were not called while sampling (the first: "
                f"{min(self.unused)}); another extension or option replaces the UNet: switch it off."
            )
