"""The picture as the host prepares it for its own VAE: resized, cropped, filled."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from modules import images, processing, sd_samplers, shared
from PIL import Image
from torch import Tensor

from ...errors import PictureError
from . import kinds

LATENT_RESIZE = 3
"""The host's resize mode "just resize (latent upscale)": the latent is resized in place of the picture."""

FILL = 2
"""The host's resize mode that fills up; it uses it for what it cuts out of a picture."""

CROP_AND_RESIZE = 1
"""The host's resize mode for a content picture."""


@dataclass(frozen=True)
class PreparedPicture:
    """One source picture.

    Attributes:
        pixels: (1, 3, H, W), float32 from 0 to 1, on the CPU.
        latent_size: height and width to which the host resizes the latent; ``None`` where it does not.
    """

    pixels: Tensor
    latent_size: tuple[int, int] | None = None

    def fingerprint(self) -> str:
        """SHA-256 over the pixels and sizes."""
        digest = hashlib.sha256(self.pixels.numpy().tobytes())
        digest.update(repr((tuple(self.pixels.shape), self.latent_size)).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Frame:
    """What the host makes of a picture's borders on the way to its VAE.

    Attributes:
        sizes: width and height of each source picture as given.
        size: width and height as prepared.
        resize_mode: the host's.
        box: what is cut out of the picture (left, top, right, bottom) where only the masked area is inpainted.
    """

    sizes: tuple[tuple[int, int], ...]
    size: tuple[int, int]
    resize_mode: int
    box: tuple[int, int, int, int] | None = None

    def fit(self, mask: Image.Image) -> Image.Image:
        """A grey mask of a source picture's size as the host would fit it, as it does its own masks."""
        if self.box is not None:
            return images.resize_image(FILL, mask.crop(self.box), *self.size).convert("L")
        mode = 0 if self.resize_mode == LATENT_RESIZE else self.resize_mode
        return images.resize_image(mode, mask, *self.size).convert("L")


@dataclass(frozen=True)
class Preparation:
    """The source pictures of a request, their frame, and the sampler that the host would make for it."""

    pictures: tuple[PreparedPicture, ...]
    frame: Frame
    sampler: Any


class _PicturesReady(BaseException):
    """Ends the host's preparation where it would encode; not an ``Exception``, so that nobody handles it."""

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()
        self.pixels = pixels


def prepare_img2img(p: Any) -> Preparation:
    """Let the host prepare its initial pictures on a copy of ``p``, up to the point of encoding them.

    Raises:
        PictureError: the request has no picture.
    """
    if not p.init_images or p.init_images[0] is None:
        raise PictureError("There is no picture to start from; give one.")
    dry = copy.copy(p)
    dry.extra_generation_params = dict(p.extra_generation_params)
    noted = kinds.of(p.sd_model).notes(p.sd_model)
    comments = list(noted.comments)
    try:
        with _broken_off_at_encoding():
            type(p).init(dry, p.all_prompts, p.all_seeds, p.all_subseeds)
    except _PicturesReady as ready:
        pixels = ready.pixels.detach().to("cpu", torch.float32)
    else:
        raise RuntimeError("the host prepared its pictures without encoding them")
    finally:
        noted.comments[:] = comments
    latents = p.resize_mode == LATENT_RESIZE
    size = (p.height // processing.opt_f, p.width // processing.opt_f) if latents else None
    distinct = len(p.init_images) if len(p.init_images) > 1 else 1
    pictures = [PreparedPicture(pixels[index : index + 1].clone(), size) for index in range(distinct)]
    return Preparation(_joined(pictures), _frame(p, dry), dry.sampler)


def _joined(pictures: Sequence[PreparedPicture]) -> tuple[PreparedPicture, ...]:
    """The same object for the same picture: the Batch tab gives one picture again for each image of a batch."""
    known: dict[str, PreparedPicture] = {}
    return tuple(known.setdefault(picture.fingerprint(), picture) for picture in pictures)


def _frame(p: Any, prepared: Any) -> Frame:
    """The frame of img2img: whether something was cut out, only the host's preparation tells."""
    sizes = tuple(picture.size for picture in p.init_images)
    box = None
    if prepared.inpaint_full_res and getattr(prepared, "paste_to", None) is not None and p.image_mask is not None:
        left, top, width, height = prepared.paste_to
        box = (left, top, left + width, top + height)
    return Frame(sizes, (p.width, p.height), p.resize_mode, box)


def prepare_txt2img(p: Any, picture: Image.Image) -> Preparation:
    """Crop and resize the content picture to the size of the first pass."""
    size = first_pass_size(p)
    frame = Frame((picture.size,), size, CROP_AND_RESIZE)
    sampler = sd_samplers.create_sampler(p.sampler_name, p.sd_model)
    return Preparation((fitted(picture, size),), frame, sampler)


def fitted(picture: Image.Image, size: tuple[int, int]) -> PreparedPicture:
    """A picture cropped and resized to a width and height, over the host's colour where it is transparent."""
    flat = images.flatten(picture, shared.opts.img2img_background_color)
    resized = images.resize_image(CROP_AND_RESIZE, flat, *size)
    pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255.0).movedim(2, 0)[None].contiguous()
    return PreparedPicture(pixels)


def generated_frame(p: Any) -> Frame:
    """The frame of a picture that is to be generated: nothing is cut off."""
    size = first_pass_size(p)
    return Frame((size,), size, CROP_AND_RESIZE)


def first_pass_size(p: Any) -> tuple[int, int]:
    """Width and height of txt2img's first pass."""
    if not getattr(p, "enable_hr", False):
        return p.width, p.height
    dry = copy.copy(p)
    dry.extra_generation_params = {}
    dry.calculate_target_resolution()
    return dry.width, dry.height


@contextmanager
def _broken_off_at_encoding() -> Iterator[None]:
    """Let the host's function that encodes pictures hand them over in place of encoding them."""

    def hand_over(image: Tensor, *_args: object, **_kwargs: object) -> NoReturn:
        raise _PicturesReady(image)

    encode = processing.images_tensor_to_samples
    processing.images_tensor_to_samples = hand_over
    try:
        yield
    finally:
        processing.images_tensor_to_samples = encode
