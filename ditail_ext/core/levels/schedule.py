"""Noise levels, the two scalings of a latent, and ratios as windows of steps.

Notation: ``alpha_bar`` is the cumulative product of the diffusion schedule. A *VP* latent is
``x = signal * x0 + noise * n`` with ``signal = sqrt(alpha_bar)`` and ``noise = sqrt(1 - alpha_bar)``: it has
unit variance at every level and is what ldm's UNet sees. A *VE* latent (k-diffusion's) is ``X = x / signal =
x0 + sigma * n`` with ``sigma = noise / signal``. Everything in core is VP; the host converts at its border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...errors import ScheduleError

MIN_ALPHA_BAR = 4.8973451890853435e-08
"""What a zero-terminal-SNR schedule has in place of 0, so that every sigma is finite (as the WebUI does)."""

TERMINAL_ALPHA_BAR = 1e-6
"""Below this a latent is noise alone: a v-model only echoes its input there (see ``inversion``)."""


@dataclass(frozen=True)
class Level:
    """One noise level: the ``timestep`` the UNet is told (0-999, may be fractional) and its ``alpha_bar``."""

    timestep: float
    alpha_bar: float

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha_bar <= 1.0:
            raise ScheduleError(
                f"A noise level's alpha-bar must be above 0 and at most 1, not {self.alpha_bar}; "
                f"use {MIN_ALPHA_BAR:.1e} for the last level of a zero-terminal-SNR schedule."
            )
        if not math.isfinite(self.timestep):
            raise ScheduleError(f"A noise level's timestep must be a finite number, not {self.timestep}.")

    @classmethod
    def clean(cls) -> Level:
        """The level without any noise."""
        return cls(0.0, 1.0)

    @property
    def signal(self) -> float:
        """Factor of the clean latent in a VP latent, sqrt(alpha_bar)."""
        return math.sqrt(self.alpha_bar)

    @property
    def noise(self) -> float:
        """Factor of unit noise in a VP latent, sqrt(1 - alpha_bar)."""
        return math.sqrt(1.0 - self.alpha_bar)

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise in a VE latent, noise / signal."""
        return self.noise / self.signal

    @property
    def is_terminal(self) -> bool:
        """Whether hardly any signal is left (the last level of a zero-terminal-SNR schedule)."""
        return self.alpha_bar < TERMINAL_ALPHA_BAR


@dataclass(frozen=True)
class NoiseSchedule:
    """The levels a checkpoint was trained on: ``alpha_bar`` of shape (timesteps,), strictly falling.

    Between whole timesteps log(sigma) is interpolated linearly, as k-diffusion does.

    Raises:
        ScheduleError: the table is not one-dimensional, not falling, or leaves (0, 1].
    """

    alpha_bar: Tensor

    def __post_init__(self) -> None:
        table = self.alpha_bar
        if table.ndim != 1 or len(table) < 2:
            raise ScheduleError(f"The alpha-bar table must be a list of numbers, not of shape {tuple(table.shape)}.")
        # to the CPU first: not every device has float64
        table = table.detach().cpu().to(torch.float64).clamp(min=MIN_ALPHA_BAR)
        if not bool(((table <= 1.0) & table.isfinite()).all()) or not bool((table.diff() < 0).all()):
            raise ScheduleError("The alpha-bar table must fall from at most 1 towards 0 without a pause.")
        object.__setattr__(self, "alpha_bar", table)

    @classmethod
    def stable_diffusion(cls, timesteps: int = 1000, start: float = 0.00085, end: float = 0.012) -> NoiseSchedule:
        """Stable Diffusion's "scaled linear" schedule: sqrt(beta) rises linearly from ``start`` to ``end``."""
        beta = torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64) ** 2
        return cls(torch.cumprod(1.0 - beta, dim=0))

    def zero_terminal_snr(self) -> NoiseSchedule:
        """This schedule rescaled so that the last level has no signal (arXiv 2305.08891, algorithm 1)."""
        signal = self.alpha_bar.sqrt()
        first, last = signal[0], signal[-1]
        rescaled = (signal - last) * first / (first - last)
        return NoiseSchedule(rescaled**2)

    @cached_property
    def _log_sigmas(self) -> Tensor:
        return 0.5 * ((1.0 - self.alpha_bar) / self.alpha_bar).log()

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def at_timestep(self, timestep: float) -> Level:
        """The level of a timestep in 0 .. len - 1; fractional ones are interpolated.

        Raises:
            ScheduleError: the timestep lies outside the schedule.
        """
        last = len(self) - 1
        if not 0 <= timestep <= last:
            raise ScheduleError(f"Timestep {timestep} lies outside the schedule, which runs from 0 to {last}.")
        low = min(int(timestep), last - 1)
        weight = timestep - low
        if weight in (0.0, 1.0):
            return Level(float(timestep), float(self.alpha_bar[low + int(weight)]))
        log_sigma = torch.lerp(self._log_sigmas[low], self._log_sigmas[low + 1], weight)
        return Level(float(timestep), _alpha_bar(float(log_sigma.exp())))

    def at_sigma(self, sigma: float) -> Level:
        """The level of a sigma (k-diffusion's noise); its timestep is held within the schedule.

        Raises:
            ScheduleError: the sigma is negative or not finite.
        """
        if not (math.isfinite(sigma) and sigma >= 0):
            raise ScheduleError(f"A sigma must be a finite number of at least 0, not {sigma}.")
        if sigma == 0:
            return Level.clean()
        logs = self._log_sigmas
        log_sigma = math.log(sigma)
        low = int(torch.searchsorted(logs, torch.tensor(log_sigma, dtype=torch.float64), right=True)) - 1
        low = max(0, min(low, len(self) - 2))
        weight = (log_sigma - float(logs[low])) / float(logs[low + 1] - logs[low])
        return Level(low + min(max(weight, 0.0), 1.0), _alpha_bar(sigma))

    def ddim_levels(self, steps: int) -> list[Level]:
        """DDIM's levels for a number of steps, noisiest first ("leading" spacing with offset 1, the authors').

        Raises:
            ScheduleError: the schedule has no room for that many steps.
        """
        if not 1 <= steps < len(self):
            raise ScheduleError(f"The number of steps must be from 1 to {len(self) - 1}, not {steps}.")
        stride = len(self) // steps
        return [self.at_timestep(index * stride + 1) for index in reversed(range(steps))]


def _alpha_bar(sigma: float) -> float:
    return max(1.0 / (1.0 + sigma * sigma), MIN_ALPHA_BAR)


@dataclass(frozen=True)
class Window:
    """The sampler steps from ``start`` up to, not including, ``stop``; steps count from 0, the noisiest."""

    start: int
    stop: int

    @classmethod
    def from_ratio(cls, ratio: float, steps: int, start: float = 0.0) -> Window:
        """The first int(ratio * steps) of ``steps`` steps, as in the authors' code, less those before ``start``.

        The small addend keeps 0.29 of 100 at 29, where binary fractions would make it 28.

        Args:
            ratio: share of the steps at which the window ends.
            steps: of the sampler.
            start: share of the steps at which it begins; empty if that is not before its end.

        Raises:
            ScheduleError: a share is none.
        """
        for share in (ratio, start):
            if not 0.0 <= share <= 1.0:
                raise ScheduleError(f"A ratio of steps must be from 0 to 1, not {share}.")
        return cls(int(start * steps + 1e-9), int(ratio * steps + 1e-9))

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __contains__(self, step: object) -> bool:
        return isinstance(step, int) and self.start <= step < self.stop


def vp_to_ve(latent: Tensor, level: Level) -> Tensor:
    """A VP latent in k-diffusion's scaling: X = x / signal."""
    return latent / level.signal


def ve_to_vp(latent: Tensor, level: Level) -> Tensor:
    """A k-diffusion (VE) latent in VP scaling: x = X * signal = X / sqrt(1 + sigma^2)."""
    return latent * level.signal


def move(latent: Tensor, origin: Level, destination: Level, epsilon: Tensor) -> Tensor:
    """One deterministic DDIM move between levels, in either direction (arXiv 2010.02502, equation 12, eta 0).

    ``x_c = (a_c / a_p) x_p + (s_c - (a_c / a_p) s_p) e``. In VE scaling this is Euler's step on sigma.

    Args:
        latent: VP latent (B, C, H, W) at ``origin``.
        origin: the level the latent has.
        destination: the level it shall have.
        epsilon: the noise estimate, of the latent's shape.
    """
    ratio = destination.signal / origin.signal
    return ratio * latent + (destination.noise - ratio * origin.noise) * epsilon


def require_rising(levels: Sequence[Level], clean: Level) -> None:
    """Check that levels rise in noise, strictly, from above ``clean``.

    Raises:
        ScheduleError: they do not, or there are none.
    """
    if not levels:
        raise ScheduleError("There are no noise levels to invert along; use at least one step.")
    before = clean
    for level in levels:
        if level.alpha_bar >= before.alpha_bar:
            raise ScheduleError(
                "Noise levels for the inversion must rise strictly from the clean end, "
                f"but alpha-bar {level.alpha_bar:.6g} follows {before.alpha_bar:.6g}."
            )
        before = level
