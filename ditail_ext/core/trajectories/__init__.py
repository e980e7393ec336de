"""The source's latents at every level: inverted from a picture, or traced while the source generates one."""

from .inversion import InversionRule, invert
from .trace import Trace, TracedLatent
from .trajectory import SAME_LEVEL, SourceTrajectory

__all__ = ["SAME_LEVEL", "InversionRule", "SourceTrajectory", "Trace", "TracedLatent", "invert"]
