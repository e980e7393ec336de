"""Which kind of host this is, told by what its models have and not by its name."""

from __future__ import annotations

from typing import Any

from ....errors import UnsupportedModelError
from .a1111 import A1111
from .protocol import Kind

__all__ = ["Kind", "of", "require_known"]

_A1111 = A1111()


def of(model: Any) -> Kind:
    """The kind of host that a model belongs to; the WebUI's where nothing says otherwise."""
    if not hasattr(model, "forge_objects"):
        return _A1111
    return _patched(model) or _A1111


def require_known(model: Any) -> None:
    """See that the host samples in a way that Ditail knows, before the source does anything.

    A descendant of the WebUI may have all that is called here and still ask its UNet elsewhere; a picture from there
    would look plausible, with nothing injected.

    Args:
        model: the host's, loaded.

    Raises:
        UnsupportedModelError: it does not.
    """
    kind = _patched(model) if hasattr(model, "forge_objects") else _A1111
    if kind is None or not kind.fits(model):
        raise UnsupportedModelError(
            "This is none of the hosts that Ditail knows: its sampler asks the UNet in a way of its own, and nothing "
            "would be injected; use AUTOMATIC1111's WebUI 1.10, reForge or Forge, or switch Ditail off here."
        )


def _patched(model: Any) -> Kind | None:
    """reForge's kind or Forge's; ``None`` where the host has nothing of what it needs."""
    unet = getattr(model.forge_objects, "unet", None)
    try:
        if hasattr(getattr(unet, "model", None), "predictor"):
            from .forge import Forge

            return Forge()
        from .reforge import ReForge

        return ReForge()
    except ImportError:
        return None
