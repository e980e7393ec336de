"""What others do with the tokens of a self-attention layer, and with a UNet's passes, while a bank is replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Tiles:
    """A layer's tokens, cut into tiles that it computes as rows of their own.

    Attributes:
        height, width: of the grid that the tokens are taken to lie on.
        down, across: how many tiles the grid is cut into; they divide its height and width.
    """

    height: int
    width: int
    down: int
    across: int

    @property
    def count(self) -> int:
        """How many rows of tiles a row is."""
        return self.down * self.across

    def whole(self, tiled: Tensor) -> Tensor:
        """Tokens (rows * count, n, channels) as they are without tiles: (rows, n * count, channels)."""
        channels = tiled.shape[-1]
        size = (self.height // self.down, self.width // self.across)
        split = tiled.reshape(-1, self.down, self.across, *size, channels)
        return split.transpose(2, 3).reshape(-1, self.height * self.width, channels)

    def cut(self, whole: Tensor) -> Tensor:
        """The reverse of :meth:`whole`."""
        channels = whole.shape[-1]
        height, width = self.height // self.down, self.width // self.across
        split = whole.reshape(-1, self.down, height, self.across, width, channels)
        return split.transpose(2, 3).reshape(-1, height * width, channels)


def _no_tiles(site: str) -> Tiles | None:
    return None


def _always() -> bool:
    return True


def _unknown(count: int) -> Sequence[int] | None:
    return None


@dataclass(frozen=True)
class Surroundings:
    """Asked where a site's output is about to be replaced; the defaults are a UNet that nobody else touches.

    Attributes:
        tiles: how the queries or keys of a site, by name, are cut right now; ``None`` for not at all.
        is_own: whether the pass at work is over the rows that the UNet was called with, and not one over somebody
            else's picture within that call, into which nothing is injected.
        rows: which of the call's rows a layer is given, where that many are not all of them; ``None`` if unknown.
        further: keys may be given more tokens than a layer's own, behind these; they stay what they are.
    """

    tiles: Callable[[str], Tiles | None] = _no_tiles
    is_own: Callable[[], bool] = _always
    rows: Callable[[int], Sequence[int] | None] = _unknown
    further: bool = False


ALONE = Surroundings()
"""Nobody else's."""
