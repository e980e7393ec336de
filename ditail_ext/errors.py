"""What can be wrong with a request.

Every message is one sentence for the person who made the request: what is wrong and what to do.
Bugs are not among these; they keep their own types and tracebacks.
"""

from __future__ import annotations


class DitailError(Exception):
    """A request that Ditail cannot fulfil; its text is shown to the user as it stands."""


class SettingsError(DitailError):
    """A setting is unknown, has the wrong type or lies outside its range.

    ``field`` is the setting's name in the settings table, or the name that was not recognised.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class ScheduleError(DitailError):
    """Noise levels that cannot be inverted or sampled along."""


class ConditioningError(DitailError):
    """Prompt embeddings that do not fit together."""


class UnsupportedModelError(DitailError):
    """A UNet whose architecture Ditail does not know how to inject into."""


class InjectionError(DitailError):
    """What was recorded does not fit the call that it should be replayed into."""


class TrajectoryError(DitailError):
    """A source trajectory that cannot be read, or does not reach the level asked of it."""


class CheckpointError(DitailError):
    """A checkpoint file that is missing, damaged or not what it should be."""


class PictureError(DitailError):
    """A picture that cannot be read or has no usable size."""


class OutputError(DitailError):
    """A place that cannot be written to."""


class NotEnoughMemoryError(DitailError):
    """The device has not enough memory for what was asked."""


class AggregationError(DitailError):
    """Models whose latents cannot be merged as asked, or weights and windows that mean nothing."""
