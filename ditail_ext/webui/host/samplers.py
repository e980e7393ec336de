"""The noise levels that a sampler of the host will visit, before it has run.

Timestep samplers (DDIM, PLMS, UniPC) label a latent with a timestep and never visit the last one; k-diffusion's
have a list of sigmas. What they do is read from the host's own functions wherever it has one.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from modules import sd_samplers, sd_samplers_common, shared
from torch import Tensor

from ...core import Level, NoiseSchedule, ve_to_vp, vp_to_ve
from ...errors import ScheduleError

SAME_SIGMA = 1e-5
"""Relative difference under which two sigmas are one level."""

RESTART_STEPS = 20
"""From so many steps on the Restart sampler goes back up with fresh noise."""


@dataclass(frozen=True)
class SamplerPlan:
    """What a sampler will do.

    Attributes:
        levels: the levels of its steps, falling in noise; ``levels[0]`` is where it starts.
        clean: the level at which it ends.
        in_timesteps: whether it calls its denoiser with timesteps and VP latents, not with sigmas and VE ones.
        stochastic: whether it adds noise of its own on the way.
    """

    levels: tuple[Level, ...]
    clean: Level
    in_timesteps: bool
    stochastic: bool

    @property
    def steps(self) -> int:
        """The number of steps; the windows of injection are counted in them."""
        return len(self.levels)

    def step_at(self, sigma: float) -> int:
        """The step that an evaluation at a sigma belongs to; second-order samplers make several a step."""
        reached = sum(level.sigma >= sigma * (1 - 1e-4) for level in self.levels)
        return min(max(reached - 1, 0), self.steps - 1)

    def start_of(self, latent: Tensor) -> Tensor:
        """A VP latent of the first level in the sampler's own scaling."""
        return latent if self.in_timesteps else vp_to_ve(latent, self.levels[0])

    def from_sampler(self, latent: Tensor, level: Level) -> Tensor:
        """A latent in the sampler's scaling as a VP latent."""
        return latent if self.in_timesteps else ve_to_vp(latent, level)


class LevelReader:
    """Turns what a sampler calls its denoiser with into a level: a timestep, or a sigma."""

    def __init__(self, sampler: Any, schedule: NoiseSchedule) -> None:
        self._wrap = sampler.model_wrap_cfg.inner_model
        self.in_timesteps = not hasattr(self._wrap, "sigma_to_t")
        self._schedule = _walked(self._wrap, schedule) if self.in_timesteps else schedule

    def __call__(self, value: float) -> Level:
        """The level of a timestep or a sigma; its timestep is what the UNet is told by the host."""
        if self.in_timesteps:
            return self._schedule.at_timestep(min(max(value, 0.0), len(self._schedule) - 1.0))
        table = self._wrap.sigmas
        timestep = float(self._wrap.sigma_to_t(torch.tensor([value], device=table.device, dtype=table.dtype)))
        return Level(timestep, self._schedule.at_sigma(value).alpha_bar)


def _walked(wrap: Any, schedule: NoiseSchedule) -> NoiseSchedule:
    """The schedule along which a timestep sampler walks.

    Forge notes it where it makes the sampler; in img2img that is before it puts zero terminal SNR in force.
    """
    table = getattr(getattr(wrap, "inner_model", None), "alphas_cumprod", None)
    if table is None:
        return schedule
    noted = table.detach().cpu().to(torch.float64)
    return schedule if torch.allclose(noted, schedule.alpha_bar, rtol=1e-5, atol=0.0) else NoiseSchedule(noted)


def plan_sampler(p: Any, sampler: Any, schedule: NoiseSchedule, *, img2img: bool) -> SamplerPlan:
    """Find out the levels that ``sampler`` will visit for ``p``.

    Args:
        p: the host's request.
        sampler: made by the host for this request and the target; not changed.
        schedule: the target's.
        img2img: whether ``sample_img2img`` will be called, with the request's denoising strength.

    Raises:
        ScheduleError: the request leaves no step to be made.
    """
    if hasattr(sampler, "scheduler_name"):  # some of reForge's are told it only when they sample
        sampler.scheduler_name = p.scheduler
    read = LevelReader(sampler, schedule)
    if read.in_timesteps:
        values, end = _timesteps(p, sampler, img2img)
        clean = read(end)
    else:
        values, clean = _sigmas(p, sampler, img2img), Level.clean()
    levels = _falling([read(value) for value in values])
    if not levels or levels[-1].sigma <= clean.sigma:
        raise ScheduleError(
            f"{p.sampler_name} makes no step with {p.steps} steps"
            + (f" and denoising strength {p.denoising_strength:g}; raise one of them." if img2img else "; use more.")
        )
    return SamplerPlan(levels, clean, read.in_timesteps, is_stochastic(p, sampler, len(levels)))


def _timesteps(p: Any, sampler: Any, img2img: bool) -> tuple[list[float], float]:
    steps, used = _img2img_steps(p) if img2img else (p.steps, None)
    listed = [float(value) for value in sampler.get_timesteps(p, steps)[:used]]
    if not listed:
        return [], 0.0
    if "is_img2img" in inspect.signature(sampler.func).parameters:
        if len(listed) < shared.opts.uni_pc_order:
            raise ScheduleError(
                f"UniPC needs at least {shared.opts.uni_pc_order} steps (its order), but makes {len(listed)}; raise "
                "the steps or the denoising strength."
            )
        top = listed[-1] if img2img else 999.0
        return [float(value) for value in torch.linspace(top, 0.0, len(listed) + 1)][:-1], 0.0
    return listed[:0:-1], listed[0]


def _sigmas(p: Any, sampler: Any, img2img: bool) -> list[float]:
    if img2img:
        steps, used = _img2img_steps(p)
        listed = sampler.get_sigmas(p, steps)[steps - used - 1 :]
    else:
        listed = sampler.get_sigmas(p, p.steps)
    sigmas = [float(sigma) for sigma in listed if sigma > 0]
    if not img2img and "sigma_max" in inspect.signature(sampler.func).parameters:
        table = sampler.model_wrap.sigmas
        bottom, top = float(table[0]), float(table[-1])
        sigmas = sorted({top, bottom, *(sigma for sigma in sigmas if bottom < sigma < top)}, reverse=True)
    return sigmas


def _img2img_steps(p: Any) -> tuple[int, int]:
    try:
        steps, used = sd_samplers_common.setup_img2img_steps(p, None)
    except ZeroDivisionError as error:
        raise ScheduleError("The denoising strength is 0; raise it.") from error
    if steps < 1:
        raise ScheduleError("The denoising strength is 0; raise it.")
    return int(steps), int(used)


def _falling(levels: Sequence[Level]) -> tuple[Level, ...]:
    """The levels without those that do not fall (schedulers repeat sigmas at their ends)."""
    kept: list[Level] = []
    for level in levels:
        if not kept or level.sigma < kept[-1].sigma * (1 - SAME_SIGMA):
            kept.append(level)
    return tuple(kept)


def is_stochastic(p: Any, sampler: Any, steps: int) -> bool:
    """Whether a sampler adds noise on the way, so that its end does not follow from its start."""
    options = sampler.config.options if sampler.config is not None else {}
    parameters = inspect.signature(sampler.func).parameters
    if options.get("brownian_noise") or sampler.config.name == "LCM":
        return True
    if sampler.config.name == "Restart":
        return steps >= RESTART_STEPS
    eta = p.eta if p.eta is not None else getattr(shared.opts, sampler.eta_option_field, 0.0)
    if "eta" in parameters and eta:
        return True
    churn = getattr(shared.opts, "s_churn", p.s_churn)
    return "s_churn" in parameters and bool(churn)


def adds_noise(name: str, steps: int) -> bool | None:
    """The same by a sampler's name, before there is a sampler or a request; ``None`` if there is none of that name.

    The functions themselves are not to be had without a model: those that take an ``eta`` of their own are marked by
    the host as using its seed delta for that noise.
    """
    known = sd_samplers.all_samplers_map.get(name)
    if known is None:
        return None
    options = known.options or {}
    if options.get("brownian_noise") or name == "LCM":
        return True
    if name == "Restart":
        return steps >= RESTART_STEPS
    if options.get("uses_ensd"):
        return bool(getattr(shared.opts, "eta_ancestral", 1.0))
    if name.startswith("DDIM"):
        return bool(getattr(shared.opts, "eta_ddim", 0.0))
    return bool(getattr(shared.opts, "s_churn", 0.0)) and name in _CHURNING


_CHURNING = ("Euler", "Heun", "DPM2")
"""Samplers that the host gives its option ``s_churn``."""
