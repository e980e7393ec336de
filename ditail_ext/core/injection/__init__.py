"""What is recorded of the source in the target's UNet, where, and how it is replayed into the rows being generated."""

from .bank import FeatureBank
from .injection import Injection
from .region import Region
from .shortcuts import Shortcut
from .sites import PROFILE_NAMES, LayerProfile, Site, SiteKind, detect_family, find_sites
from .surroundings import ALONE, Surroundings, Tiles

__all__ = [
    "ALONE",
    "PROFILE_NAMES",
    "FeatureBank",
    "Injection",
    "LayerProfile",
    "Region",
    "Shortcut",
    "Site",
    "SiteKind",
    "Surroundings",
    "Tiles",
    "detect_family",
    "find_sites",
]
