"""Where a request injects: the region that its settings name, as the core wants it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from modules import processing
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from ...errors import PictureError
from ...settings import EVERYWHERE, MASK_REGION, OUTSIDE_REGION
from ..host.preparation import Frame
from ..request.arguments import Request

SAME_PROPORTIONS = 0.01
"""Relative difference of two pictures' width by height under which one is the other, resized."""


def region_of(p: Any, request: Request, frame: Frame) -> Tensor | None:
    """The region in pixels of the prepared picture, (1, 1, H, W) from 0 to 1; ``None`` for everywhere.

    Raises:
        PictureError: there is no such mask, it has other proportions than a picture, or leaves nothing to inject.
    """
    settings = request.settings
    if settings.region == EVERYWHERE:
        return None
    if settings.region == MASK_REGION and request.mask is not None:
        fitted = frame.fit(_of_picture(request.mask, frame))
    else:
        fitted = frame.fit(_inpaint_mask(p, settings.region))
    if settings.region_blur:
        fitted = fitted.filter(ImageFilter.GaussianBlur(settings.region_blur))
    if not fitted.getbbox():
        raise PictureError(f"Nothing would be injected: the region '{settings.region}' is empty; make it larger.")
    return torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 255.0)[None, None]


def _inpaint_mask(p: Any, region: str) -> Image.Image:
    """The host's mask as it was painted, turned round where it is inverted; its blur is not ours."""
    image_mask = getattr(p, "image_mask", None)
    if image_mask is None:
        raise PictureError(
            f"region is '{region}', but this request has no inpaint mask; use inpainting or choose another region."
        )
    mask = processing.create_binary_mask(image_mask, round=p.mask_round)
    return ImageOps.invert(mask) if bool(p.inpainting_mask_invert) != (region == OUTSIDE_REGION) else mask


def _of_picture(mask: Image.Image, frame: Frame) -> Image.Image:
    """The mask in the size of the picture that it belongs to."""
    for width, height in frame.sizes:
        if abs(mask.width * height / (mask.height * width) - 1.0) > SAME_PROPORTIONS:
            raise PictureError(
                f"The region mask is {mask.width}x{mask.height}, but the picture {width}x{height}; use a mask of the "
                "picture's proportions."
            )
    size = frame.sizes[0]
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BICUBIC)
