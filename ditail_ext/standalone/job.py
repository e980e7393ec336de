"""The embedded host's main job: one picture, two checkpoints, one result."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..core import (
    InversionRule,
    Prompts,
    Region,
    SourceTrajectory,
    invert,
    mix,
)
from ..errors import PictureError, TrajectoryError
from ..settings import Settings
from .aggregation import FurtherModels, beside
from .checkpoint import open_checkpoint
from .further import Aggregated
from .model import Compute, Model
from .parameters import Sampling, infotext
from .picture import GRID, fit, fitted_size, mask_to_tensor, read_mask, read_picture, soften, to_picture, to_tensor
from .target import progress, prompts_of, run_sampler, sampled

logger = logging.getLogger("ditail")

IMG2IMG_STRENGTHS = (0.5, 0.75)
"""The denoising strengths of the contact sheet's img2img panels."""


@dataclass(frozen=True)
class Job:
    """What is asked for, checked as far as it can be without looking into files.

    Attributes:
        picture: file of the content picture.
        target: checkpoint that samples.
        source: checkpoint that inverts; the target when ``None``.
        mask: file of a region mask of the picture's size, white where to inject, grey where to inject in part.
        shorter_side: pixels that the picture's shorter side is scaled to; 0 leaves it.
        loaded_trajectory: file of an inversion made before, instead of inverting.
        with_sheet: also make the panels of the contact sheet.
        aggregated: further checkpoints to merge with the target in the first steps.
    """

    picture: Path
    target: Path
    source: Path | None
    sampling: Sampling
    settings: Settings
    mask: Path | None = None
    shorter_side: int = 512
    loaded_trajectory: Path | None = None
    with_sheet: bool = False
    aggregated: Aggregated | None = None


@dataclass(frozen=True)
class Result:
    """A finished job.

    Attributes:
        picture: Ditail's picture.
        parameters: its infotext.
        trajectory: the source trajectory.
        panels: captioned pictures of the contact sheet; empty unless asked for.
    """

    picture: Image.Image
    parameters: str
    trajectory: SourceTrajectory
    panels: Sequence[tuple[str, Image.Image]]


def run(job: Job, compute: Compute) -> Result:
    """Run a job. Everything that can be wrong with its files is found before the long work begins.

    Raises:
        DitailError: a file cannot be used, or does not fit the others.
    """
    original = read_picture(job.picture)
    size = fitted_size(original.size, job.shorter_side)
    if original.size != size:
        logger.info("The picture of %dx%d is fitted to %dx%d.", *original.size, *size)
    picture = fit(original, size)
    region = _region(job, original.size, size)
    target = Model(open_checkpoint(job.target), compute)
    source = target if job.source is None else Model(open_checkpoint(job.source), compute)
    for model in (target, source):
        model.check()
    further = None if job.aggregated is None else FurtherModels(job.aggregated, job.sampling, target, compute)
    panels: list[tuple[str, Image.Image]] = []
    if job.loaded_trajectory is None:
        trajectory = _invert(job, source, to_tensor(picture))
        if job.with_sheet:
            panels = [("source", picture), ("reconstruction", _reconstruct(job, source, trajectory))]
    else:
        trajectory = _load_trajectory(job, target, size).to(compute.device)
    if source is not target:
        source.release()
    with beside(further) as companions:
        latents = sampled(job, target, trajectory, region, injected=True, companions=companions)
    target.require_numbers(latents)
    result = to_picture(target.decode_picture(latents))
    if job.with_sheet:
        alone = to_picture(target.decode_picture(sampled(job, target, trajectory, None, injected=False)))
        panels += _img2img_panels(job, target, trajectory.clean)
        panels += [("target alone, same start", alone), ("Ditail", result)]
    source_name = source.title if job.loaded_trajectory is None else trajectory.metadata.get("source", "unknown")
    text = infotext(job.sampling, job.settings, target.title, source_name, size, further.infotext if further else {})
    return Result(result, text, trajectory, panels)


def _region(job: Job, original: tuple[int, int], size: tuple[int, int]) -> Region | None:
    if job.mask is None:
        return None
    mask = mask_to_tensor(soften(fit(read_mask(job.mask, original), size), job.settings.region_blur))
    return Region.from_pixels(mask, (size[1] // GRID, size[0] // GRID))


def _conditions(job: Job, model: Model) -> tuple[Tensor, Tensor]:
    """The inversion's positive and negative prompt, which default to the main ones."""
    settings, sampling = job.settings, job.sampling
    positive = model.encode_prompt(settings.inversion_prompt or sampling.prompt)
    negative = model.encode_prompt(settings.inversion_negative_prompt or sampling.negative_prompt)
    return positive, negative


def _invert(job: Job, source: Model, picture: Tensor) -> SourceTrajectory:
    settings = job.settings
    levels = source.schedule.ddim_levels(job.sampling.steps)[::-1]
    cond = mix(*_conditions(job, source), settings.positive_scale, settings.negative_scale)
    latents = source.encode_picture(picture)
    with progress("Inverting", len(levels)) as bar:
        trajectory = invert(
            source.predict_noise,
            latents,
            levels,
            cond,
            clean=source.clean,
            rule=InversionRule(settings.inversion_rule),
            refinements=settings.refinements,
            on_step=lambda step, steps, level, latent: bar.update(),
        )
    source.require_numbers(trajectory.latents)
    trajectory.metadata["source"] = source.title
    return trajectory


def _load_trajectory(job: Job, target: Model, size: tuple[int, int]) -> SourceTrajectory:
    """An inversion made before, if it is one of a picture of this size along these levels."""
    path = job.loaded_trajectory
    assert path is not None
    trajectory = SourceTrajectory.load(path)
    if trajectory.batch_size != 1 or tuple(trajectory.start.shape[1:]) != (4, size[1] // GRID, size[0] // GRID):
        raise PictureError(
            f"The trajectory in {path.name} belongs to a picture of {trajectory.start.shape[-1] * GRID}x"
            f"{trajectory.start.shape[-2] * GRID}, not of {size[0]}x{size[1]}; invert this picture."
        )
    top = target.schedule.ddim_levels(job.sampling.steps)[0]
    if abs(trajectory.levels[-1].alpha_bar - top.alpha_bar) > 1e-6:
        raise TrajectoryError(
            f"The trajectory in {path.name} was inverted along {len(trajectory.levels) - 1} steps, which do not "
            f"start where {job.sampling.steps} steps do; use the same --steps."
        )
    return trajectory


def _reconstruct(job: Job, source: Model, trajectory: SourceTrajectory) -> Image.Image:
    """What the source makes of its own trajectory's end, under the inversion's own condition."""
    settings = job.settings
    positive, negative = _conditions(job, source)
    cond = mix(positive, negative, settings.positive_scale, settings.negative_scale)
    same = replace(job, sampling=replace(job.sampling, cfg_scale=1.0))
    levels = source.schedule.ddim_levels(job.sampling.steps)
    latents = run_sampler(same, source, trajectory.start, levels, Prompts(cond, cond, cond), "Reconstructing")
    return to_picture(source.decode_picture(latents))


def _img2img_panels(job: Job, target: Model, clean: Tensor) -> list[tuple[str, Image.Image]]:
    """What plain img2img with the target makes of the picture at two denoising strengths, the noise from seed 0."""
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(clean.device)
    levels = target.schedule.ddim_levels(job.sampling.steps)
    panels = []
    for strength in IMG2IMG_STRENGTHS:
        remaining = levels[len(levels) - max(1, round(strength * len(levels))) :]
        start = remaining[0].signal * clean + remaining[0].noise * noise
        caption = f"img2img, strength {strength:g}"
        latents = run_sampler(job, target, start, remaining, prompts_of(job, target), caption)
        panels.append((caption, to_picture(target.decode_picture(latents))))
    return panels
