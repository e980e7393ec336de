"""The target's part of a job: its prompts, and its sampling with the source injected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from ..core import Companions, Injection, Level, Prompts, Region, Shortcut, SourceTrajectory, Window, sample
from .model import Model

if TYPE_CHECKING:
    from .job import Job


def prompts_of(job: Job, target: Model) -> Prompts:
    """The target's embeddings of a job's prompts."""
    return Prompts(
        positive=target.encode_prompt(job.sampling.prompt),
        negative=target.encode_prompt(job.sampling.negative_prompt),
        empty=target.encode_prompt(""),
    )


def sampled(
    job: Job,
    target: Model,
    trajectory: SourceTrajectory,
    region: Region | None,
    *,
    injected: bool,
    companions: Companions | None = None,
) -> Tensor:
    """The target's clean latents from the inverted start, with or without the source injected."""
    prompts = prompts_of(job, target)
    levels = target.schedule.ddim_levels(job.sampling.steps)
    if not injected:
        return run_sampler(job, target, trajectory.start, levels, prompts, "Target alone")
    settings, steps = job.settings, job.sampling.steps
    with Injection(
        target.unet,
        feature_window=Window.from_ratio(settings.feature_ratio, steps, settings.feature_start),
        attention_window=Window.from_ratio(settings.attention_ratio, steps, settings.attention_start),
        feature_weight=settings.feature_weight,
        attention_weight=settings.attention_weight,
        profile=settings.layer_profile,
        region=region,
        shortcut=Shortcut.PROJECTIONS,
        record_every=settings.record_every,
    ) as injection:
        return run_sampler(
            job,
            target,
            trajectory.start,
            levels,
            prompts,
            "Sampling",
            trajectory=trajectory,
            injection=injection,
            companions=companions,
        )


def run_sampler(
    job: Job,
    model: Model,
    start: Tensor,
    levels: Sequence[Level],
    prompts: Prompts,
    caption: str,
    *,
    trajectory: SourceTrajectory | None = None,
    injection: Injection | None = None,
    companions: Companions | None = None,
) -> Tensor:
    """DDIM down the levels, with a bar."""
    with progress(caption, len(levels)) as bar:
        return sample(
            model.predict_noise,
            start,
            levels,
            prompts,
            cfg_scale=job.sampling.cfg_scale,
            clean=model.clean,
            trajectory=trajectory,
            injection=injection,
            companions=companions,
            most_rows=model.most_rows,
            on_step=lambda step, steps, level, latent: bar.update(),
        )


def progress(caption: str, steps: int) -> tqdm[torch.Tensor]:
    """A bar of so many steps."""
    return tqdm(total=steps, desc=caption, unit="step", dynamic_ncols=True)
