"""The content picture of txt2img: from what the panel or the API sends to a picture."""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import SettingsError

PICTURE = "picture"
"""Name of the argument that carries the content picture, in txt2img."""


def read_picture(value: object) -> Image.Image | None:
    """The picture in an argument; ``None`` where it says that there is none.

    Args:
        value: a PIL picture from the panel, or base64 of a picture file (a data URL too) from the API.

    Raises:
        SettingsError: it is something else, or no picture that can be read.
    """
    if value is None or value == "":
        return None
    if isinstance(value, Image.Image):
        return value
    if not isinstance(value, str):
        raise SettingsError(PICTURE, f"{PICTURE} must be a picture file in base64, not {type(value).__name__}.")
    text = value.split(",", 1)[-1] if value.startswith("data:") else value
    try:
        picture = Image.open(io.BytesIO(base64.b64decode("".join(text.split()), validate=True)))
        picture.load()
    except binascii.Error as error:
        raise SettingsError(PICTURE, f"{PICTURE} is not valid base64; send the bytes of a PNG or JPEG.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SettingsError(PICTURE, f"{PICTURE} is no picture that can be read; send a PNG or JPEG.") from error
    return ImageOps.exif_transpose(picture)
