"""The ways to redraw a picture that the quality bench compares, on the demo's checkpoints, sampled with DDIM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bench.quality.plan import Kind, Method
from demo.parts import Models
from demo.sample import decode
from demo.train.vae import to_tensor
from ditail_ext.core import (
    Condition,
    Injection,
    Level,
    NoiseSchedule,
    Prompts,
    Shortcut,
    SourceTrajectory,
    Window,
    invert,
    ldm_noise_predictor,
    mix,
    sample,
)

CFG_SCALE = 5.0
SCHEDULE = NoiseSchedule.stable_diffusion()


@dataclass
class Task:
    """Pictures in one source's style, with their captions, to be redrawn.

    `pictures` is (n, h, w, 3) uint8, `noise` (n, 4, h/8, w/8). Inversions are kept in `kept` for the methods that
    share them, and so is what the source draws itself, in `drawn` (n, h, w, 3).
    """

    pictures: np.ndarray
    captions: Sequence[str]
    noise: Tensor
    source: Models
    kept: dict[tuple[object, ...], SourceTrajectory] = field(default_factory=dict)
    drawn: dict[tuple[object, ...], np.ndarray] = field(default_factory=dict)

    def latents(self) -> Tensor:
        """The pictures through the VAE: posterior means, scaled."""
        pictures = to_tensor(self.pictures)
        with torch.no_grad():
            return torch.cat([self.source.vae.encode(p[None])[0] for p in pictures]) * self.source.scale_factor


@torch.no_grad()
def prompts(models: Models, captions: Sequence[str]) -> Prompts:
    """The captions against the empty negative prompt."""
    empty = models.text(models.vocabulary.batch([""]))
    return Prompts(models.text(models.vocabulary.batch(list(captions))), empty, empty)


def redraw(method: Method, task: Task, target: Models) -> np.ndarray:
    """The task's pictures by one method: (n, h, w, 3) uint8."""
    levels = SCHEDULE.ddim_levels(method.steps)
    conds = prompts(target, task.captions)
    if method.kind is Kind.IMG2IMG:
        levels = _remaining(levels, method.strength)
        return decode(target, _sample(target, _noised(task, levels[0]), levels, conds))
    if method.kind is Kind.NO_INVERSION:
        levels = _remaining(levels, method.strength)
        return decode(target, _inject(method, target, _noised_trajectory(task, levels), levels, conds))
    inverted = trajectory(method, task, target, levels)
    if method.kind is Kind.NO_INJECTION:
        return decode(target, _sample(target, inverted.start, levels, conds))
    return decode(target, _inject(method, target, inverted, levels, conds))


def content(method: Method, task: Task, target: Models) -> np.ndarray | None:
    """The picture that the source generated, where the method has it draw the content itself."""
    if method.kind is not Kind.GENERATED:
        return None
    key = method.inversion_key
    if key not in task.drawn:
        clean = trajectory(method, task, target, SCHEDULE.ddim_levels(method.steps)).clean
        task.drawn[key] = decode(task.source, clean)
    return task.drawn[key]


def _remaining(levels: Sequence[Level], strength: float) -> Sequence[Level]:
    """The levels that a denoising strength leaves, as img2img counts them."""
    return levels[len(levels) - max(1, round(strength * len(levels))) :]


def _noised(task: Task, level: Level) -> Tensor:
    return level.signal * task.latents() + level.noise * task.noise


def _noised_trajectory(task: Task, levels: Sequence[Level]) -> SourceTrajectory:
    """No inversion: the picture with one noise, mixed anew for every level (as the authors' extension has it)."""
    clean = task.latents()
    rising = levels[::-1]
    noised = [level.signal * clean + level.noise * task.noise for level in rising]
    return SourceTrajectory((SCHEDULE.at_timestep(0), *rising), torch.stack([clean, *noised]))


def trajectory(method: Method, task: Task, target: Models, levels: Sequence[Level]) -> SourceTrajectory:
    """The latents of a method's content: of the pictures inverted, or of the source's own run."""
    inverter = target if method.kind is Kind.TARGET_INVERTS else task.source
    key = (method.kind is Kind.GENERATED, id(inverter), *method.inversion_key)
    if key not in task.kept:
        conds = prompts(inverter, task.captions)
        if method.kind is Kind.GENERATED:
            task.kept[key] = _generated(task, levels, conds)
        else:
            cond: Condition = mix(conds.positive, conds.negative.expand_as(conds.positive),
                                  method.positive_scale, method.negative_scale)  # fmt: skip
            task.kept[key] = invert(
                ldm_noise_predictor(inverter.unet),
                task.latents(),
                levels[::-1],
                cond,
                clean=SCHEDULE.at_timestep(0),
                rule=method.rule,
                refinements=method.refinements,
            )
    return task.kept[key]


def _generated(task: Task, levels: Sequence[Level], conds: Prompts) -> SourceTrajectory:
    """The latents of the source's own text-to-image run."""
    visited = [task.noise]
    predict = ldm_noise_predictor(task.source.unet)
    sample(
        predict,
        task.noise,
        levels,
        conds,
        cfg_scale=CFG_SCALE,
        clean=SCHEDULE.at_timestep(0),
        on_step=lambda step, steps, level, latent: visited.append(latent),
    )
    return SourceTrajectory((SCHEDULE.at_timestep(0), *levels[::-1]), torch.stack(visited[::-1]))


def _sample(
    models: Models,
    start: Tensor,
    levels: Sequence[Level],
    conds: Prompts,
    trajectory: SourceTrajectory | None = None,
    injection: Injection | None = None,
) -> Tensor:
    return sample(
        ldm_noise_predictor(models.unet),
        start,
        levels,
        conds,
        cfg_scale=CFG_SCALE,
        clean=SCHEDULE.at_timestep(0),
        trajectory=trajectory,
        injection=injection,
    )


def _inject(
    method: Method, target: Models, trajectory: SourceTrajectory, levels: Sequence[Level], conds: Prompts
) -> Tensor:
    with Injection(
        target.unet,
        feature_window=Window.from_ratio(method.feature_ratio, len(levels), method.feature_start),
        attention_window=Window.from_ratio(method.attention_ratio, len(levels), method.attention_start),
        feature_weight=method.feature_weight,
        attention_weight=method.attention_weight,
        profile=method.layer_profile,
        shortcut=Shortcut.PROJECTIONS,
        record_every=method.record_every,
    ) as injection:
        return _sample(target, trajectory.start, levels, conds, trajectory, injection)
