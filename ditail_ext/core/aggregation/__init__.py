"""AMDM (arXiv 2410.01262): the latents of several models merged while the first steps are sampled."""

from .aggregation import Aggregation, Merger
from .companions import Companion, Companions, Estimate
from .merging import Merge, ReleasedMix, Slerp
from .pull import Pull, posterior_mean
from .rows import RowGroups, Scaling

__all__ = [
    "Aggregation",
    "Companion",
    "Companions",
    "Estimate",
    "Merge",
    "Merger",
    "Pull",
    "ReleasedMix",
    "RowGroups",
    "Scaling",
    "Slerp",
    "posterior_mean",
]
