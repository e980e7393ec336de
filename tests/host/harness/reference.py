"""What the core alone makes of a request: the same files, without the WebUI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ditail_ext.core import Injection, InversionRule, Level, Prompts, SourceTrajectory, Window, invert, mix, sample
from ditail_ext.settings import Settings
from ditail_ext.standalone.checkpoint import open_checkpoint
from ditail_ext.standalone.model import Compute, Model
from ditail_ext.standalone.picture import to_tensor

COMPUTE = Compute(torch.device("cpu"), torch.float32)
PROMPT, NEGATIVE = "a red circle", "blue"


@dataclass(frozen=True)
class LevelPath:
    """Levels, falling in noise, and the clean end."""

    levels: tuple[Level, ...]
    clean: Level


class Reference:
    """Two checkpoints of the tests' folder, as the embedded host loads them."""

    def __init__(self, files: Path, source: str, target: str) -> None:
        self.source, self.target = (
            Model(open_checkpoint((files / "checkpoints" / name).resolve()), COMPUTE) for name in (source, target)
        )

    def timesteps(self, steps: list[float], clean: float) -> LevelPath:
        at = self.target.schedule.at_timestep
        return LevelPath(tuple(at(step) for step in steps), at(clean))

    def sigmas(self, steps: list[float]) -> LevelPath:
        return LevelPath(tuple(self.target.schedule.at_timestep(step) for step in steps), Level.clean())

    def trajectory(self, picture: Image.Image, path: LevelPath, settings: Settings) -> SourceTrajectory:
        cond = mix(
            self.source.encode_prompt(PROMPT),
            self.source.encode_prompt(NEGATIVE),
            settings.positive_scale,
            settings.negative_scale,
        )
        clean = self.source.encode_picture(to_tensor(picture))
        return invert(
            self.source.predict_noise,
            clean,
            path.levels[::-1],
            cond,
            clean=path.clean,
            rule=InversionRule(settings.inversion_rule),
            refinements=settings.refinements,
        )

    def sample(self, trajectory: SourceTrajectory, path: LevelPath, settings: Settings, cfg_scale: float) -> Tensor:
        steps = len(path.levels)
        prompts = Prompts(*(self.target.encode_prompt(text) for text in (PROMPT, NEGATIVE, "")))
        with Injection(
            self.target.unet,
            feature_window=Window.from_ratio(settings.feature_ratio, steps),
            attention_window=Window.from_ratio(settings.attention_ratio, steps),
            feature_weight=settings.feature_weight,
            attention_weight=settings.attention_weight,
        ) as injection:
            return sample(
                self.target.predict_noise,
                trajectory.start,
                path.levels,
                prompts,
                cfg_scale=cfg_scale,
                clean=path.clean,
                trajectory=trajectory,
                injection=injection,
            )


def relative(found: object, expected: object) -> float:
    """Distance in units of the expected latent's size."""
    a, b = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    return float((a - b).norm() / b.norm())


def ddim_path(reference: Reference) -> LevelPath:
    """Of 6 steps at denoising strength 0.75 DDIM makes 3: they are 4, less one."""
    return reference.timesteps([499, 333, 167], clean=1)


def automatic_path(reference: Reference) -> LevelPath:
    """Of the same a k-diffusion sampler with its own scheduler makes 5."""
    return reference.sigmas([999 * step / 5 for step in (4, 3, 2, 1, 0)])
