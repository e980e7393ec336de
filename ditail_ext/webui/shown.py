"""Content pictures that the source generated, shown and saved beside the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modules import images, shared
from PIL import Image

SUFFIX = "-ditail-content"
"""Of the saved files' names."""


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
    for content in contents[:made]:
        picture = content.picture.copy()
        if shared.opts.enable_pnginfo:
            picture.info["parameters"] = content.infotext
        if p.save_samples():
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
        processed.images.append(picture)
        processed.infotexts.append(content.infotext)
