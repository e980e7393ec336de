"""A further checkpoint's guided noise estimate, with the host's conditions and rules.

What the host's own denoiser does for the target, less its callbacks, which are other extensions' hold on the picture,
and its previews and refiner: those are the target's alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from modules import prompt_parser, shared
from torch import Tensor

from ...core import Condition, Level
from ..host.model import noise_predictor


@dataclass(frozen=True)
class Conditions:
    """A batch's prompts as one model has encoded them.

    Attributes:
        positive: the host's, for one or several parts (``AND``) an image, by step.
        negative: the host's, one an image, by step.
    """

    positive: Any
    negative: Any

    @classmethod
    def of(cls, model: Any, prompts: Sequence[str], negatives: Sequence[str], p: Any) -> Conditions:
        """Encode the prompts, with the model at work.

        Args:
            model: the host's.
            prompts: without tags, one an image.
            negatives: likewise.
            p: the host's request, for size and steps.
        """
        more = {"width": p.width, "height": p.height}
        # A second-order sampler counts its evaluations as steps; the host schedules the prompt's changes by these.
        steps = max(int(getattr(p, "firstpass_steps", None) or p.steps), 1)
        old = bool(shared.opts.use_old_scheduling)
        positive = prompt_parser.get_multicond_learned_conditioning(
            model, prompt_parser.SdConditioning(prompts, **more), steps, None, old
        )
        negative = prompt_parser.get_learned_conditioning(
            model, prompt_parser.SdConditioning(negatives, is_negative_prompt=True, **more), steps, None, old
        )
        return cls(positive, negative)


@dataclass(frozen=True)
class Guided:
    """Noise estimates (B, C, H, W) of VP latents: with guidance, and for the negative prompt alone."""

    epsilon: Tensor
    negative: Tensor


def guided_noise(
    model: Any, rows: Tensor, level: Level, conditions: Conditions, *, evaluation: int, cfg_scale: float
) -> Guided:
    """What a model says of its own latents.

    Args:
        model: the host's, at work.
        rows: VP latents (B, C, H, W).
        level: that the UNet is told.
        conditions: of the batch.
        evaluation: of the sampler, from 0; prompts may change on the way.
        cfg_scale: of the request.
    """
    parts, positive = prompt_parser.reconstruct_multicond_batch(conditions.positive, evaluation)
    negative = prompt_parser.reconstruct_cond_batch(conditions.negative, evaluation)
    images = [image for image, indexes in enumerate(parts) for _ in indexes]
    predict = noise_predictor(model)
    if shared.opts.batch_cond_uncond and positive.shape[1] == negative.shape[1]:
        together = predict(torch.cat([rows[images], rows]), level, _joined(positive, negative))
        estimates, unguided = together[: len(images)], together[len(images) :]
    else:
        estimates, unguided = predict(rows[images], level, positive), predict(rows, level, negative)
    guided = unguided.clone()
    for image, indexes in enumerate(parts):
        for row, weight in indexes:
            guided[image] += (estimates[row] - unguided[image]) * (weight * cfg_scale)
    return Guided(guided, unguided)


def _joined(first: Any, second: Any) -> Condition:
    if isinstance(first, dict):
        return {name: torch.cat([value, second[name]]) for name, value in first.items()}
    return torch.cat([first, second])
