"""What is shown beside the results: content pictures that the source generated, and sentences for API clients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from modules import images, shared
from PIL import Image

SUFFIX = "-ditail-content"
"""Of the saved files' names."""

SAID = "Ditail said"
"""Of the result's ``info``: the sentences that the page shows below the picture."""


@dataclass(frozen=True)
class ContentPicture:
    """What the source generated for one image.

    Attributes:
        picture: decoded.
        infotext: parameters that make it again, with the source checkpoint and without Ditail.
        seed: of the image.
        prompt: of the image.
    """

    picture: Image.Image
    infotext: str
    seed: int
    prompt: str


def append(p: Any, processed: Any, contents: Sequence[ContentPicture]) -> None:
    """Append the content pictures of the images that were made, and save them where the host saves those."""
    made = len(processed.images) - processed.index_of_first_image
    for index, content in enumerate(contents[:made]):
        picture = content.picture.copy()
        if shared.opts.enable_pnginfo:
            picture.info["parameters"] = content.infotext
        if p.save_samples():
            with _numbered_as(p, index):
                _save(p, picture, content)
        processed.images.append(picture)
        processed.infotexts.append(content.infotext)


def tell(p: Any, processed: Any) -> None:
    """Put what the page shows below the picture into the result's ``info``, too, for the API."""
    said = [comment for comment in p.comments if comment.startswith("Ditail")]
    if said:
        processed.extra_generation_params = {**processed.extra_generation_params, SAID: said}


def _save(p: Any, picture: Image.Image, content: ContentPicture) -> None:
    images.save_image(
        picture,
        p.outpath_samples,
        "",
        content.seed,
        content.prompt,
        shared.opts.samples_format,
        info=content.infotext,
        p=p,
        suffix=SUFFIX,
    )


@contextmanager
def _numbered_as(p: Any, index: int) -> Iterator[None]:
    """Let the request stand at one of its images: a user's pattern for file names may number them by that alone."""
    before = p.iteration, p.batch_index
    p.iteration, p.batch_index = divmod(index, p.batch_size)
    try:
        yield
    finally:
        p.iteration, p.batch_index = before
