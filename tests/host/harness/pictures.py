"""How far two answers' pictures lie apart."""

from __future__ import annotations

import numpy as np

from .client import Answer

NEAR = 2
"""Of 255: rounding to a whole number may fall on either side, and a UNet's sums may be in another order."""


def difference(one: Answer, other: Answer) -> int:
    """The greatest of all pixels of all pictures, of 255."""
    assert len(one.pictures) == len(other.pictures)
    pairs = zip(one.pictures, other.pictures, strict=True)
    return max(int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max()) for a, b in pairs)
