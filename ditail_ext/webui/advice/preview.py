"""The middle of a generation: what comes back when the source inverts a picture and samples it again by itself."""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np
from modules import images, shared
from PIL import Image

from ...core import InversionRule, Prompts, invert, sample
from ...settings import Settings
from ..host import networks
from ..host.checkpoints import check_file, check_pair
from ..host.installed import find_source, find_vae
from ..host.model import encode_picture, noise_predictor, precision, ready, schedule_of
from ..host.progress import InversionProgress
from ..source.at_work import Source, at_work, require_numbers
from ..source.generator import decoded
from ..source.prompts import inversion_condition
from ..timing import of_this_device
from .question import Question
from .sentence import name

GOOD, FAIR = 0.2, 0.5
"""Errors up to which the picture comes back, or its layout does."""

FEW_STEPS = 15
HIGH_SCALE = 4.0
USUAL_SIDES = {False: (384, 1024), True: (768, 1536)}
"""Sides of pictures that a checkpoint knows, by whether it is SDXL."""


@dataclass(frozen=True)
class Preview:
    """What came back.

    Attributes:
        sheet: the picture, its reconstruction and their difference, with labels.
        error: of the latent that came back, as a share of the picture's own (relative L2 norm).
        source: name of the checkpoint.
        reasons: what may be the cause where the error is not small.
    """

    sheet: Image.Image
    error: float
    source: str
    reasons: tuple[str, ...]


def preview(question: Question, settings: Settings, steps: int) -> Preview:
    """Invert and sample back along DDIM's levels; to be called with the host's queue held.

    Under the inversion's own condition and without guidance, so that what does not come back is the inversion's fault.

    Raises:
        InversionStopped: Interrupt or Skip was pressed.
        DitailError: the source cannot be loaded, or is of another family.
    """
    source = _source(settings)
    width, height = question.size
    progress = InversionProgress(2 * steps, 0)
    with at_work(source, source.vae, progress, of_this_device()) as model, networks.active(question.prompts.tags):
        cond = inversion_condition(model, question.prompts, settings, width=width, height=height, steps=steps)
        latent = encode_picture(model, question.picture.pixels)
        schedule, predict = schedule_of(model), noise_predictor(model)
        levels, clean = schedule.ddim_levels(steps), schedule.at_timestep(0)
        with precision(), ready(model, latent):
            inverted = invert(
                predict,
                latent,
                levels[::-1],
                cond,
                clean=clean,
                rule=InversionRule(settings.inversion_rule),
                refinements=settings.refinements,
                on_step=progress,
            )
            same = Prompts(cond, cond, cond)
            back = sample(predict, inverted.start, levels, same, cfg_scale=1.0, clean=clean, on_step=progress)
        require_numbers(source, back)
        pictures = [decoded(model, one)[0].numpy() for one in (latent, back)]
        error = float((back - latent).norm() / latent.norm())
        is_sdxl = bool(getattr(model, "is_sdxl", False))
    return Preview(
        _sheet(pictures, error), error, source.info.name, _reasons(error, settings, steps, question.size, is_sdxl)
    )


def _source(settings: Settings) -> Source:
    target = shared.sd_model.sd_checkpoint_info
    source = Source(find_source(settings.source_checkpoint, target), find_vae(settings.source_vae))
    if not source.is_target:
        check_pair(check_file(source.info), source.info, shared.sd_model, source.vae)
    return source


def _sheet(pictures: list[np.ndarray], error: float) -> Image.Image:
    given, back = (picture.astype(np.int16) for picture in pictures)
    difference = np.abs(given - back).astype(np.uint8)
    three = [Image.fromarray(picture) for picture in (*pictures, difference)]
    labels = [[images.GridAnnotation(text)] for text in ("picture", "comes back", f"difference, error {error:.2f}")]
    width, height = three[0].size
    grid = images.image_grid(three, rows=1)
    sheet: Image.Image = images.draw_grid_annotations(grid, width, height, labels, [[images.GridAnnotation()]])
    return sheet


def _reasons(error: float, settings: Settings, steps: int, size: tuple[int, int], is_sdxl: bool) -> tuple[str, ...]:
    if error <= GOOD:
        return ()
    low, high = USUAL_SIDES[is_sdxl]
    why = []
    if settings.positive_scale > HIGH_SCALE:
        why.append(f"Positive scale is {settings.positive_scale:g}: lower it towards 3 or 1.")
    if steps < FEW_STEPS:
        why.append(f"{steps} steps are few: more make the inversion more exact.")
    if not low <= min(size) <= max(size) <= high:
        why.append(f"{size[0]} x {size[1]} is not a size that such checkpoints know.")
    if settings.inversion_rule == "authors" and not settings.refinements:
        why.append("The inversion rule “warm start” returns closer to the picture.")
    if error > FAIR:
        why.append("The source may not know such pictures, or the prompt may say something else: suggest a source.")
    return tuple(why)


def in_words(found: Preview) -> str:
    """What the panel says of it: HTML."""
    if found.error <= GOOD:
        verdict = "the picture comes back"
    else:
        verdict = "roughly" if found.error <= FAIR else "it does not come back"
    reasons = "".join(f"<li>{html.escape(text)}</li>" for text in found.reasons)
    return f"<p>{name(found.source)}: error {found.error:.2f}, {verdict}.</p><ul>{reasons}</ul>"
