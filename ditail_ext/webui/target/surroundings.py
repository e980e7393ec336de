"""What the host and other extensions do with tokens and passes of the target's UNet while it is injected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn

from ...core import ALONE, Surroundings
from ...errors import UnsupportedModelError
from ..host import foreign, hypertile


def refuse_unknown_attention(unet: nn.Module) -> None:
    """Refuse a self-attention that an extension has replaced by something of which nobody knows whose tokens it is on.

    Raises:
        UnsupportedModelError: there is such a one.
    """
    other = foreign.self_attention(unet)
    if other is not None:
        raise UnsupportedModelError(
            f"'{other}' changes the self-attention that Ditail injects; switch one of them off."
        )


@contextmanager
def surroundings_of(unet: nn.Module) -> Iterator[Surroundings]:
    """A context for the sampling of a batch.

    Args:
        unet: the target's, as other extensions have left it: some change it only right before a batch.

    Raises:
        UnsupportedModelError: see :func:`refuse_unknown_attention`.
    """
    refuse_unknown_attention(unet)
    reference = foreign.reference(unet)
    with hypertile.noted(unet) if hypertile.is_on() else nullcontext(ALONE.tiles) as tiles:
        if reference is None:
            yield Surroundings(tiles)
        else:
            yield Surroundings(tiles, reference.is_own, reference.rows, further=True)
