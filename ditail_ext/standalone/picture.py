"""Pictures in and out: read, fit to the VAE's grid, to tensors and back, masks, PNG with parameters."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps, PngImagePlugin
from torch import Tensor

from ..core.files import write_whole
from ..errors import OutputError, PictureError
from ..pictures import UnreadablePictureError, as_mask, is_transparent, open_picture

GRID = 8
"""Pixels a side of one latent."""
SMALLEST = 64
"""Pixels; below this the UNet's innermost level has nothing left."""

logger = logging.getLogger("ditail")


def read_picture(path: Path) -> Image.Image:
    """An RGB picture, upright; transparency is laid on white.

    Raises:
        PictureError: the file is missing or not a picture.
    """
    picture = _read(path, "picture")
    if is_transparent(picture):
        logger.warning("%s has transparency, which is laid on white.", path.name)
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(white, layer)
    return picture.convert("RGB")


def read_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """A grey mask of the original picture's ``size`` (width, height); white is where to inject.

    Raises:
        PictureError: the file is missing, not a picture, of another size, or black all over.
    """
    mask = as_mask(_read(path, "mask"))
    if mask.size != size:
        raise PictureError(
            f"The mask {path.name} is {mask.width}x{mask.height}, but the picture {size[0]}x{size[1]}; "
            "paint the mask on the picture itself."
        )
    if mask.getextrema()[1] == 0:
        raise PictureError(f"The mask {path.name} is black all over, so nothing would be injected; paint white.")
    return mask


def _read(path: Path, what: str) -> Image.Image:
    if not path.is_file():
        raise PictureError(f"There is no {what} at {path}.")
    try:
        with path.open("rb") as file:
            return open_picture(file)
    except UnreadablePictureError as error:
        raise PictureError(f"{path.name} {error}.") from error
    except OSError as error:
        raise PictureError(f"{path.name} cannot be read: {error.strerror}.") from error


def fitted_size(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """Width and height of a picture scaled to the shorter side (0: as it is), cropped to the VAE's grid.

    Raises:
        PictureError: the picture would be smaller than the UNet can take.
    """
    scale = shorter_side / min(size) if shorter_side else 1.0
    width, height = (round(side * scale) // GRID * GRID for side in size)
    if min(width, height) < SMALLEST:
        raise PictureError(
            f"The picture would be {width}x{height}, but needs at least {SMALLEST} pixels a side; use a larger one "
            "or a larger --size."
        )
    return width, height


def fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale to cover ``size`` (width, height) and cut what overlaps, evenly on both sides."""
    return picture if picture.size == size else ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


def soften(mask: Image.Image, pixels: int) -> Image.Image:
    """A grey mask whose edges are softened over so many pixels (the deviation of a Gaussian)."""
    return mask.filter(ImageFilter.GaussianBlur(pixels)) if pixels else mask


def to_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture as (1, 3, H, W) in -1..1."""
    pixels = torch.from_numpy(np.array(picture, dtype=np.float32))
    return pixels.permute(2, 0, 1).unsqueeze(0) / 127.5 - 1.0


def mask_to_tensor(mask: Image.Image) -> Tensor:
    """A grey mask as (1, 1, H, W) in 0..1."""
    return torch.from_numpy(np.array(mask, dtype=np.float32))[None, None] / 255.0


def to_picture(tensor: Tensor) -> Image.Image:
    """A picture of (1, 3, H, W) in -1..1."""
    pixels = ((tensor[0].permute(1, 2, 0) + 1.0) * 127.5).round().clamp(0, 255)
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def save_png(picture: Image.Image, path: Path, parameters: str | None = None) -> None:
    """Write a PNG, whole or not at all, with its parameters where the WebUI looks for them.

    Raises:
        OutputError: it cannot be written.
    """
    info = PngImagePlugin.PngInfo()
    if parameters is not None:
        info.add_itxt("parameters", parameters)
    content = io.BytesIO()
    picture.save(content, "PNG", pnginfo=info)
    try:
        write_whole(path, content.getvalue())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
