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


@dataclass
class Replay:
    """What a step's UNet calls take from the source.

    Attributes:
        bank: the step's recording.
        sites: the sites to replay, by name.
        sources: for each row of a call the index of its source picture, (rows,); ``None`` for one source.
        region: where to inject; everywhere if ``None``.
        weights: of the source's values by kind, from 0 to 1; the rest is the row's own. 1 where none is given.
        unused: the sites that no call has reached yet.
    """

    bank: FeatureBank
    sites: Mapping[str, Site]
    sources: Tensor | None
    region: Region | None
    weights: Mapping[SiteKind, float] = field(default_factory=dict)
    unused: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.unused = set(self.sites)

    def replaces(self, site: Site) -> bool:
        """Whether nothing of a site's own output remains, so that it need not be computed."""
        return self.region is None and self._weight(site) == 1.0

    def handle(self, site: Site, output: Tensor) -> Tensor | None:
        """What stands in the place of a site's output; ``None`` leaves it."""
        if site.name not in self.sites:
            return None
        self.unused.discard(site.name)
        recorded = self.bank.for_rows(site.name, tuple(output.shape), self.sources)
        source = torch.empty_like(output).copy_(recorded)
        if self.replaces(site):
            return source
        weight = self._weight(site)
        if self.region is not None:
            return self.region.blend(output, source, self.sources, weight)
        return weight * source + (1.0 - weight) * output

    def stand_in(self, site: Site, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """A site's value for rows of a shape without its own output, in the recorded precision."""
        self.unused.discard(site.name)
        return self.bank.for_rows(site.name, shape, self.sources).to(device, copy=True).contiguous()

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
