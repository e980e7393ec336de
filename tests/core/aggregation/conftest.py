"""Two models on one noise, with conditions of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from ditail_ext.core import (
    Companion,
    Level,
    NoiseSchedule,
    PredictNoise,
    Prompts,
    guided_noise,
    ldm_noise_predictor,
    sample,
)

CFG_SCALE = 2.0


@dataclass(frozen=True)
class Pair:
    """Target and companion; ``sample(...)`` runs the target, ``alone`` the companion."""

    schedule: NoiseSchedule
    start: Tensor
    predicts: tuple[PredictNoise, PredictNoise]
    prompts: tuple[Prompts, Prompts]

    @property
    def estimates(self) -> list[Callable[[Tensor, Level], Tensor]]:
        pairs = zip(self.predicts, self.prompts, strict=True)
        return [guided_noise(predict, prompts, cfg_scale=CFG_SCALE) for predict, prompts in pairs]

    @property
    def companion(self) -> Companion:
        return Companion(self.estimates[1])

    def sample(self, steps: int, **options) -> Tensor:
        levels = self.schedule.ddim_levels(steps)
        start = options.pop("start", self.start)
        return sample(self.predicts[0], start, levels, self.prompts[0], cfg_scale=CFG_SCALE, **options)

    def alone(self, steps: int) -> Tensor:
        levels = self.schedule.ddim_levels(steps)
        return sample(self.predicts[1], self.start, levels, self.prompts[1], cfg_scale=CFG_SCALE)


@pytest.fixture(scope="session")
def pair(scene: SimpleNamespace, unets: SimpleNamespace) -> Pair:
    own = scene.prompts
    other = Prompts(own.negative, own.empty, own.empty)
    start = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    predicts = tuple(map(partial(ldm_noise_predictor), (unets.target, unets.source)))
    return Pair(NoiseSchedule.stable_diffusion(), start, predicts, (own, other))
