"""THE reader of pictures: the panel's, the API's and the command line's all come through here.

What a file says is taken as far as it goes, in whatever mode it is: 16 bits, floats, LAB, CMYK, palettes, opacity, the
camera's orientation. What cannot be read is one kind of error, whatever the decoder made of it.
"""

from __future__ import annotations

import io
from typing import BinaryIO

from PIL import Image, ImageCms, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "ICO")
"""Formats that are read, by Pillow's names. Others start programs on what they are given (EPS), or are no pictures."""

LARGEST = 2**26
"""Pixels of the largest picture that is read. Pillow has a limit of its own, which other scripts switch off."""

_PLAIN = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")


class UnreadablePictureError(ValueError):
    """A picture that cannot be read; its text goes on after the name of what was to be read."""


def open_picture(source: BinaryIO | bytes) -> Image.Image:
    """Read a picture: upright, of 8 bits, in mode 1, L, P, RGB or, where something is transparent, RGBA.

    Args:
        source: a file, or a file's bytes.

    Raises:
        UnreadablePictureError: it is no picture, damaged, of another format, or too large.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file, formats=FORMATS) as picture:
            check_size(picture)
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            upright.format = picture.format  # a copy forgets it, and it says how deep grey is
            return normal(upright)
    except UnreadablePictureError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadablePictureError(_too_large(None)) from error
    except Exception as error:  # decoders raise nearly anything, also for a broken orientation
        raise UnreadablePictureError("is no picture that can be read; save it as PNG or JPEG") from error


def check_size(picture: Image.Image) -> None:
    """Refuse a picture whose pixels would fill the memory.

    Raises:
        UnreadablePictureError: it has more than :data:`LARGEST`.
    """
    if picture.width * picture.height > LARGEST:
        raise UnreadablePictureError(_too_large(picture))


def _too_large(picture: Image.Image | None) -> str:
    size = "too many pixels" if picture is None else f"{picture.width}x{picture.height} pixels"
    return f"has {size}, and at most {LARGEST // 1_000_000} megapixels are read; use a smaller one"


def normal(picture: Image.Image) -> Image.Image:
    """A picture in one of the plain modes, its values as they were meant."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _of_eight_bits(picture)
    if picture.mode == "LAB":
        transform = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        converted = ImageCms.applyTransform(picture, transform)
        return converted if converted is not None else picture.convert("RGB")
    if picture.mode not in _PLAIN:
        picture = picture.convert({"RGBa": "RGBA", "La": "LA"}.get(picture.mode, "RGB"))
    return picture.convert("RGBA") if is_transparent(picture) else picture


def _of_eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of floating point, as grey of 8 bits; a plain conversion would cut off above 255.

    Whole numbers run to 65535, unless they cannot be told to be of 16 bits and none is above 255. Floats run from 0 to
    1, to 255 or to 65535: by the largest of them.
    """
    values = picture.convert("F") if picture.mode == "F" else picture.convert("I")
    _, largest = values.getextrema()
    if picture.mode.startswith("I;16") or picture.format == "PNG" or largest > 255:
        scale = 1 / 257
    else:
        scale = 255.0 if picture.mode == "F" and largest <= 1.0 else 1.0
    return values.point(lambda value: value * scale).convert("L")


def is_transparent(picture: Image.Image) -> bool:
    """Whether a picture has an opacity, or a colour that stands for none."""
    return picture.mode in ("RGBA", "LA", "PA") or (
        picture.mode in ("1", "L", "P", "RGB") and "transparency" in picture.info
    )


def as_mask(picture: Image.Image) -> Image.Image:
    """A mask in grey (mode L): its opacity, where a picture has one, as the WebUI's own masks; else its brightness."""
    plain = normal(picture)
    if plain.mode == "RGBA":
        opacity = plain.getchannel("A")
        if opacity.getextrema()[0] < 255:
            return opacity
    return plain.convert("L")
