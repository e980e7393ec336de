"""Content, target alone and result of a finished picture: made on request, shown under a slider, saved as a sheet."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import replace

from modules import images, paths_internal, processing, shared
from PIL import Image, ImageOps

from ...errors import PictureError
from ...settings import AGGREGATE, EVERYWHERE, NO_MIX
from ...sheet import contact_sheet
from ..host.progress import InversionStopped
from ..request.arguments import OVERRIDES
from . import runs
from .runs import Run

ALONE = {"feature_ratio": 0.0, "attention_ratio": 0.0, "region": EVERYWHERE, **dict.fromkeys(AGGREGATE, NO_MIX)}
"""Settings with which the target starts at the same latent, and nothing is injected or merged."""

CAPTIONS = ("content", "target alone, same start", "Ditail")
"""As the command line's contact sheet has them."""

_SHOWN = 1024
"""Pixels of the longer side that the page gets; the sheet has all."""


def compare(infotext: str) -> Run:
    """Make what is missing of a picture's comparison; to be called with the host's queue held.

    Returns:
        the run with its panels: three pictures of one size.

    Raises:
        PictureError: the picture is none of Ditail's last ones.
        InversionStopped: Interrupt or Skip was pressed.
        Ditail: the target's own picture cannot be made.
    """
    run = runs.last.get(infotext)
    if run is None:
        raise PictureError("That picture is none of the last ones that Ditail made here of a content; generate first.")
    if run.panels:
        return run
    pictures = _without_injection(run)
    result = run.result.convert("RGB")
    content = _as_prepared(run, result.size) if run.picture is not None else pictures[-1]
    three = (_fit(content, result.size), _fit(pictures[0], result.size), result)
    compared = replace(run, panels=tuple(zip(CAPTIONS, three, strict=True)))
    runs.last.put(compared)
    return compared


def _without_injection(run: Run) -> list[Image.Image]:
    """The target's picture, and the content where the source generates it."""
    request = runs.again(run)
    overrides = {**getattr(request, OVERRIDES, {}), **ALONE, "show_content": run.picture is None}
    setattr(request, OVERRIDES, overrides)
    processed = processing.process_images(request)
    if shared.state.interrupted or shared.state.skipped:
        raise InversionStopped
    return list(processed.images[processed.index_of_first_image :])


def _as_prepared(run: Run, size: tuple[int, int]) -> Image.Image:
    """The content picture as the host resized it."""
    flat = images.flatten(run.picture, shared.opts.img2img_background_color)
    mode = getattr(run.request, "resize_mode", 1)
    resized: Image.Image = images.resize_image(mode if mode in (0, 1, 2) else 0, flat, *size)
    return resized


def _fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    picture = picture.convert("RGB")
    return picture if picture.size == size else ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


def save(infotext: str) -> str:
    """Save a comparison that was made as a contact sheet among the grids; gives the file's name.

    Raises:
        PictureError: it was not made, or others have been since.
    """
    run = runs.last.get(infotext)
    if run is None or not run.panels:
        raise PictureError("There is nothing to save yet; compare first.")
    folder = run.request.outpath_grids or shared.opts.outdir_grids or paths_internal.default_output_dir
    file, _ = images.save_image(
        contact_sheet(run.panels),
        folder,
        "ditail_sheet",
        info=infotext,
        extension=shared.opts.grid_format,
        prompt=run.request.prompt,
        seed=run.request.seed,
        grid=True,
    )
    return str(file)


def in_html(run: Run, name: str) -> str:
    """The pictures under a slider: the result lies over one of the other two, and the slider says how much of it.

    It moves without ``javascript/``: what it does stands in the slider itself.
    """
    content, alone, result = (_source(picture) for _, picture in run.panels)
    one, other = (html.escape(caption) for caption in CAPTIONS[:2])
    width, height = run.result.size
    return f"""
<div class="ditail-compare" style="--at: 50%; max-width: {min(640, max(256, 2 * width))}px">
<input type="radio" name="{name}" id="{name}_content"><label for="{name}_content">{one}</label>
<input type="radio" name="{name}" id="{name}_alone" checked><label for="{name}_alone">{other}</label>
<span class="ditail-end">Ditail</span>
<div class="ditail-stage" style="aspect-ratio: {width} / {height}">
<img class="ditail-of-content" alt="{one}" src="{content}"><img class="ditail-of-alone" alt="{other}" src="{alone}">
<img class="ditail-of-result" alt="Ditail" src="{result}"><i></i>
<input type="range" min="0" max="100" value="50" aria-label="Where Ditail's picture begins"
oninput="this.closest('.ditail-compare').style.setProperty('--at', this.value + '%')">
</div></div>"""


def _source(picture: Image.Image) -> str:
    small = picture.copy()
    small.thumbnail((_SHOWN, _SHOWN))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=92)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
