"""Which kind of host this is, told by what its models have and not by its name."""

from __future__ import annotations

from typing import Any

from ....errors import UnsupportedModelError

__all__ = ["require_known"]


def require_known(model: Any) -> None:
    """See that the host samples in a way that Ditail knows, before the source does anything.

    A descendant of the WebUI may have all that is called here and still ask its UNet elsewhere; a picture from there
    would look plausible, with nothing injected.

    Args:
        model: the host's, loaded.

    Raises:
        UnsupportedModelError: it does not.
    """
    if hasattr(model, "forge_objects") or not callable(getattr(model, "apply_model", None)):
        raise UnsupportedModelError(
            "This is neither AUTOMATIC1111's WebUI nor another host that Ditail knows: its sampler asks the UNet in a "
            "way of its own, and nothing would be injected; use AUTOMATIC1111's WebUI 1.10, or switch Ditail off here."
        )
