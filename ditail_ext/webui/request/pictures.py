"""The pictures among the arguments, txt2img's content picture and the region mask: from what is sent to a picture."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from PIL import Image, ImageChops

from ...errors import SettingsError
from ...pictures import UnreadablePictureError, as_mask, check_size, normal, open_picture

PICTURE = "picture"
"""Name of the argument that carries the content picture, in txt2img."""

MASK = "mask"
"""Name of the argument that carries the region mask."""

LABELS = {PICTURE: "Content picture", MASK: "Region mask"}
"""What the panel calls them."""

COLOURLESS = 24
"""Difference of a pixel's channels up to which it is grey."""


def read_mask(value: object, *, chosen: bool = True) -> Image.Image | None:
    """The region mask in an argument, in grey (mode L); ``None`` where it says that there is none.

    Grey is strength: white injects in full, black not at all. Of a picture with transparency the opacity counts, as
    for the host's own masks.

    Args:
        value: what :func:`read_picture` takes, or from the panel ``{"image": ..., "mask": ...}`` with what was painted
            on a picture as the mask; where nothing was painted, the picture itself is the mask.
        chosen: whether the mask has a part, so that it matters if it was forgotten to paint.

    Raises:
        SettingsError: it is something else, or no picture that can be read, or a photo with nothing painted on it.
    """
    if isinstance(value, Mapping):
        painted, below = read_mask(value.get("mask")), value.get("image")
        if painted is not None and painted.getbbox():
            return painted
        if chosen and isinstance(below, Image.Image) and _is_coloured(below):
            raise SettingsError(
                MASK, f"The region {MASK} is a coloured picture with nothing painted on it; paint, or give a grey one."
            )
        return read_mask(below)
    picture = read_picture(value, MASK)
    return None if picture is None else as_mask(picture)


def _is_coloured(picture: Image.Image) -> bool:
    """Whether an opaque picture has colours, beyond what JPEG makes of a grey one."""
    *colours, opacity = picture.convert("RGBA").split()
    differences = (ImageChops.difference(colours[0], other).getextrema()[1] for other in colours[1:])
    return opacity.getextrema()[0] == 255 and max(differences) > COLOURLESS


def read_picture(value: object, argument: str = PICTURE) -> Image.Image | None:
    """The picture in an argument; ``None`` where it says that there is none.

    What is transparent, in whatever way a file may say so, is RGBA, as the panel sends it: the host lays no other over
    a background.

    Args:
        value: a PIL picture from the panel, or base64 of a picture file (a data URL too) from the API.
        argument: the argument's name, for what is said about it.

    Raises:
        SettingsError: it is something else, or no picture that can be read.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, Image.Image):
            check_size(value)
            return normal(value)
        if not isinstance(value, str):
            raise SettingsError(argument, f"{argument} must be a picture file in base64, not {type(value).__name__}.")
        text = value.split(",", 1)[-1] if value.startswith("data:") else value
        return open_picture(base64.b64decode("".join(text.split()), validate=True))
    except UnreadablePictureError as error:
        raise SettingsError(argument, f"{argument} {error}.") from error
    except ValueError as error:  # also of letters that base64 does not have
        raise SettingsError(argument, f"{argument} is not valid base64; send the bytes of a PNG or JPEG.") from error


def mask_hash(mask: Image.Image) -> str:
    """What names a region mask in the infotext: its size and greys, hashed."""
    return hashlib.sha256(repr(mask.size).encode() + mask.tobytes()).hexdigest()[:10]
