"""One replay: which sites, from which bank, into whose rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InjectionError
from .bank import FeatureBank
from .region import Region
from .sites import Site


@dataclass
class Replay:
    """What a step's UNet calls take from the source.

    Attributes:
        bank: the step's recording.
        sites: the sites to replay, by name.
        sources: for each row of a call the index of its source picture, (rows,); ``None`` for one source.
        region: where to inject; everywhere if ``None``.
        unused: the sites that no call has reached yet.
    """

    bank: FeatureBank
    sites: Mapping[str, Site]
    sources: Tensor | None
    region: Region | None
    unused: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.unused = set(self.sites)

    def handle(self, site: Site, output: Tensor) -> Tensor | None:
        """What stands in the place of a site's output; ``None`` leaves it."""
        if site.name not in self.sites:
            return None
        self.unused.discard(site.name)
        recorded = self.bank.for_rows(site.name, tuple(output.shape), self.sources)
        source = torch.empty_like(output).copy_(recorded)
        return source if self.region is None else self.region.blend(output, source, self.sources)

    def stand_in(self, site: Site, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """A site's value for rows of a shape without its own output, in the recorded precision."""
        self.unused.discard(site.name)
        return self.bank.for_rows(site.name, shape, self.sources).to(device, copy=True).contiguous()

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
