"""The source trajectory: a picture's latent at every noise level, found again by level."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open  # type: ignore[attr-defined]
from safetensors.torch import save
from torch import Tensor

from ...errors import ScheduleError, TrajectoryError
from ..files import write_whole
from ..levels import Level

FILE_FORMAT = "ditail-trajectory"
FILE_VERSION = "1"
SAME_LEVEL = 1e-4
"""Relative difference of sigma under which two levels are the same (float32 arithmetic on sigmas)."""


class SourceTrajectory:
    """Latents along rising noise levels, the clean one first.

    Attributes:
        levels: the levels, rising in noise; ``levels[0]`` is the clean end.
        latents: (levels, B, C, H, W), float32, VP scaling; B is the number of source pictures.
        metadata: text about where it comes from, kept with the file.
    """

    def __init__(self, levels: Sequence[Level], latents: Tensor, metadata: Mapping[str, str] | None = None) -> None:
        if len(levels) < 2 or latents.ndim != 5 or latents.shape[0] != len(levels):
            raise TrajectoryError(
                f"A trajectory needs one latent a level and at least one level above the clean one, not "
                f"{len(levels)} levels and latents of shape {tuple(latents.shape)}."
            )
        if any(low.alpha_bar <= high.alpha_bar for low, high in pairwise(levels)):
            raise TrajectoryError("A trajectory's levels must rise in noise.")
        self.levels = tuple(levels)
        self.latents = latents.to(torch.float32)
        self.metadata = dict(metadata or {})

    @property
    def clean(self) -> Tensor:
        """The clean latents, (B, C, H, W)."""
        return self.latents[0]

    @property
    def start(self) -> Tensor:
        """The latents of the noisiest level, (B, C, H, W) in VP scaling: where sampling starts."""
        return self.latents[-1]

    @property
    def batch_size(self) -> int:
        """The number of source pictures."""
        return self.latents.shape[1]

    @property
    def nbytes(self) -> int:
        """Memory that the latents take, in bytes."""
        return self.latents.numel() * self.latents.element_size()

    def at(self, level: Level, *, tolerance: float = SAME_LEVEL) -> Tensor:
        """The latents (B, C, H, W), VP, at a noise level.

        A stored level is returned as it is when the sigmas agree within ``tolerance`` (relative). Between stored
        levels the VE latent is linear in sigma, which is the very path that the inversion's move takes; nothing
        is gained by another UNet call.

        Raises:
            TrajectoryError: the level lies outside the trajectory by more than the tolerance.
        """
        sigmas = [stored.sigma for stored in self.levels]
        nearest = min(range(len(sigmas)), key=lambda index: abs(sigmas[index] - level.sigma))
        if abs(sigmas[nearest] - level.sigma) <= tolerance * max(sigmas[nearest], level.sigma):
            return self.latents[nearest]
        if not sigmas[0] < level.sigma < sigmas[-1]:
            raise TrajectoryError(
                f"The source trajectory covers sigma {sigmas[0]:.4g} to {sigmas[-1]:.4g}, but the sampler asked "
                f"for {level.sigma:.4g}; invert along the sampler's own levels."
            )
        high = next(index for index, sigma in enumerate(sigmas) if sigma > level.sigma)
        return between(self.levels, self.latents, high - 1, high, level)

    def to(self, device: torch.device | str) -> SourceTrajectory:
        """The same trajectory on another device."""
        return SourceTrajectory(self.levels, self.latents.to(device), self.metadata)

    def to_bytes(self) -> bytes:
        """The content of the file that :meth:`save` writes."""
        header = {
            "format": FILE_FORMAT,
            "version": FILE_VERSION,
            "levels": json.dumps([[level.timestep, level.alpha_bar] for level in self.levels]),
            "metadata": json.dumps(self.metadata),
        }
        return save({"latents": self.latents.cpu().contiguous()}, metadata=header)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a safetensors file, whole or not at all.

        Raises:
            TrajectoryError: the file cannot be written.
        """
        target = Path(path)
        try:
            write_whole(target, self.to_bytes())
        except OSError as error:
            raise TrajectoryError(f"The trajectory cannot be written to {target}: {error.strerror}.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SourceTrajectory:
        """Read a file written by :meth:`save`, onto the CPU.

        Raises:
            TrajectoryError: the file is missing, truncated, or not a trajectory.
        """
        source = Path(path)
        if not source.is_file():
            raise TrajectoryError(f"There is no trajectory file at {source}.")
        try:
            with safe_open(source, framework="pt") as file:  # type: ignore[attr-defined]
                header = file.metadata() or {}
                if header.get("format") != FILE_FORMAT or "latents" not in file.keys():  # noqa: SIM118
                    raise TrajectoryError(f"{source} is a safetensors file, but not a Ditail trajectory.")
                if header.get("version") != FILE_VERSION:
                    raise TrajectoryError(
                        f"{source} is a trajectory of version {header.get('version')}, which this release cannot "
                        "read; invert the picture again."
                    )
                latents = file.get_tensor("latents")
                if not bool(latents.isfinite().all()):
                    raise TrajectoryError(f"{source} holds numbers that are not finite; invert the picture again.")
        except (SafetensorError, OSError) as error:
            raise TrajectoryError(
                f"{source} is damaged or not a safetensors file; invert the picture again."
            ) from error
        try:
            levels = [Level(float(timestep), float(alpha)) for timestep, alpha in json.loads(header["levels"])]
            return cls(levels, latents, json.loads(header["metadata"]))
        except (KeyError, TypeError, ValueError, ScheduleError) as error:
            raise TrajectoryError(f"{source} has a damaged header; invert the picture again.") from error


def between(levels: Sequence[Level], latents: Tensor, low: int, high: int, level: Level) -> Tensor:
    """The latents of a level between two others: VE latents linear in sigma.

    ``x = a ((1 - w) x_low / a_low + w x_high / a_high)`` with w linear in sigma; finite at every level.

    Args:
        levels: of the latents.
        latents: (levels, B, C, H, W), VP scaling.
        low: index of the less noisy one.
        high: index of the noisier one.
        level: between the two.

    Returns:
        (B, C, H, W), VP scaling.
    """
    below, above = levels[low], levels[high]
    weight = (level.sigma - below.sigma) / (above.sigma - below.sigma)
    lower = level.signal * (1.0 - weight) / below.signal
    upper = level.signal * weight / above.signal
    return lower * latents[low] + upper * latents[high]
