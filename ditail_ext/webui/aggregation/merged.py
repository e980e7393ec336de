"""The host's sampler on one batch of all models' rows, [the target's; the first further checkpoint's; ...].

What the host and other extensions see of a batch stays the target's: their callbacks, previews, masks and noise are of
its rows. The sampler's function and its denoiser's ``forward`` alone know of more (``core/aggregation/rows.py``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from modules import shared
from torch import Tensor

from ...core import Level, NoiseSchedule, RowGroups, Scaling
from ...errors import AggregationError
from ..host.model import schedule_of
from ..host.samplers import LevelReader, SamplerPlan
from ..target.batch import replace
from ..target.sampling import Batch, Batches, gone_around, unannounced
from ..timing import Part, TimeSplit
from .asked import Asked
from .companions import Companion, Companions
from .noise import spread_noise
from .steps import StepCounter


@dataclass(frozen=True)
class AggregatedBatches:
    """The batches of one request.

    Attributes:
        asked: the further checkpoints and their window.
        plan: the levels that the sampler will visit.
        times: takes the seconds of loads and of the further models.
        inner: what Ditail does to the target's rows besides; ``None`` for nothing.
    """

    asked: Asked
    plan: SamplerPlan
    times: TimeSplit
    inner: Batches | None = None

    @contextmanager
    def __call__(self, p: Any) -> Iterator[Batch]:
        """The batch that the host's request is about to sample; its further models are loaded and have their prompts.

        Raises:
            InversionStopped: Interrupt or Skip was pressed.
            DitailError: a checkpoint cannot be used.
        """
        schedule = schedule_of(shared.sd_model)
        # What is wrapped first, within what the inner batch wraps, has to be undone last.
        inner_of = nullcontext() if self.inner is None else self.inner(p)
        with ExitStack() as within, inner_of as inner, ExitStack() as around:
            companions = Companions()
            around.callback(companions.release)
            companions.open(p, self.asked.models, schedule, self.times)
            yield AggregatedBatch(self, companions, schedule, inner, (within, around))


class AggregatedBatch:
    """One batch: the sampler runs on every model's rows, and each evaluation sends each model its own."""

    def __init__(
        self,
        request: AggregatedBatches,
        companions: Companions,
        schedule: NoiseSchedule,
        inner: Batch | None,
        undo: tuple[ExitStack, ExitStack],
    ) -> None:
        self.failure: Exception | None = None
        self._request = request
        self._companions = companions
        self._schedule = schedule
        self._inner = inner
        self._within, self._around = undo
        self._attached = False

    @property
    def starts_elsewhere(self) -> bool:
        """See :class:`~..target.sampling.Batch`."""
        return self._inner is not None and self._inner.starts_elsewhere

    def attach(self, sampler: Any, noise: Tensor) -> None:
        """Wrap the sampler's function within what Ditail wraps around it, and its denoiser outside of that."""
        plan = self._request.plan
        groups = RowGroups(
            self._request.asked.for_steps(plan.steps),
            self._schedule,
            Scaling.VP if plan.in_timesteps else Scaling.VE,
            self._companions.release,
        )
        steps = StepCounter(sampler, plan)
        replace(self._within, sampler, "func", self._on_all_rows(sampler, groups, steps))
        if self._inner is not None:
            self._inner.attach(sampler, noise)
        denoiser = sampler.model_wrap_cfg
        read = LevelReader(sampler, self._schedule)
        models = self._companions.models.copy()  # releasing empties the list
        replace(
            self._around, denoiser, "forward", _Evaluation(denoiser, groups, steps, read, models, self._request.times)
        )
        self._attached = True

    def require_attached(self, other: str | None) -> None:
        """See :class:`~..target.sampling.Batch`."""
        failure = self.failure or (None if self._inner is None else self._inner.failure)
        if failure is not None:
            raise failure
        if not self._attached:
            raise unannounced(other)
        if self._inner is not None:
            self._inner.require_attached(other)

    def _on_all_rows(self, sampler: Any, groups: RowGroups, steps: StepCounter) -> Callable[..., Any]:
        function, clean = sampler.func, self._request.plan.clean

        @functools.wraps(function)  # the host reads its parameters' names
        def run(model: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
            if "callback" in kwargs:
                kwargs["callback"] = _of_the_target(kwargs["callback"], x.shape[0])
            try:
                with spread_noise(sampler, x, kwargs, groups.spread):
                    rows = function(model, groups.spread(x), *args, **kwargs)
            except Exception as error:
                # The host's own denoiser fails at rows that it has no conditions for.
                if steps.evaluation < 0 and _came_by(error, type(sampler.model_wrap_cfg).forward):
                    raise gone_around() from error
                raise
            if steps.evaluation < 0:  # what the rows hold would be taken for merged
                raise gone_around()
            return groups.finish(rows, clean)

        return run


def _came_by(error: Exception, function: Any) -> bool:
    """Whether an error was raised in a function, or in what it called."""
    code, trace = getattr(function, "__code__", None), error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not code:
        trace = trace.tb_next
    return trace is not None


def _of_the_target(callback: Any, count: int) -> Any:
    """The sampler's callback, told of the target's rows alone."""
    if callback is None:
        return None

    def told(state: dict[str, Any]) -> Any:
        rows = {name: value[:count] for name, value in state.items() if isinstance(value, Tensor) and value.ndim == 4}
        return callback({**state, **rows})

    return told


class _Evaluation:
    """The denoiser's ``forward`` for every model's rows."""

    def __init__(
        self,
        denoiser: Any,
        groups: RowGroups,
        steps: StepCounter,
        read: LevelReader,
        models: list[Companion],
        times: TimeSplit,
    ) -> None:
        self._denoiser = denoiser
        self._target = denoiser.forward
        self._wrapped = denoiser.inner_model
        self._groups = groups
        self._steps = steps
        self._read = read
        self._models = models
        self._times = times

    def __call__(self, x: Tensor, sigma: Tensor, **kwargs: Any) -> Tensor:
        """What the sampler wants to know of ``x``, (models * B, C, H, W): denoised latents, or noise."""
        level = self._read(float(sigma.flatten()[0]))
        step = self._steps.next(level)
        if step is not None:
            merged = self._groups.begin(step, level, x)
            if merged is not x:
                x.copy_(merged)  # in the sampler's own tensor, from which it goes on
        if self._groups.evaluating and self._denoiser.inner_model is not self._wrapped:
            raise AggregationError(
                "The refiner took over before merging ended; let it take over later, or lower the aggregation ratio."
            )
        unguided: list[Tensor] = []
        target = functools.partial(self._evaluate_target, sigma=sigma, unguided=unguided, **kwargs)
        others = [
            functools.partial(self._evaluate_other, model, level, kwargs["cond_scale"], unguided)
            for model in self._models
        ]
        result = self._groups.evaluate(x, [target, *others], idle=functools.partial(self._idle, unguided))
        if self._denoiser.need_last_noise_uncond:  # CFG++ goes on along the negative prompt's noise
            self._denoiser.last_noise_uncond = torch.cat(unguided)
        return result

    def _evaluate_target(self, rows: Tensor, *, sigma: Tensor, unguided: list[Tensor], **kwargs: Any) -> Tensor:
        result: Tensor = self._target(rows, sigma[: rows.shape[0]], **kwargs)
        if self._denoiser.need_last_noise_uncond:
            unguided.append(self._denoiser.last_noise_uncond)
        return result

    def _evaluate_other(
        self, model: Companion, level: Level, scale: float, unguided: list[Tensor], rows: Tensor
    ) -> Tensor:
        denoiser, timesteps = self._denoiser, self._read.in_timesteps
        seen = _held(denoiser, rows) if denoiser.mask_before_denoising else rows
        vp = seen if timesteps else seen * level.signal
        with self._times.part(Part.AGGREGATE):
            found = model.guided(vp, level, self._steps.evaluation, cfg_scale=scale * denoiser.cond_scale_miltiplier)
        unguided.append(found.negative)
        if timesteps:
            return found.epsilon
        denoised = seen - level.sigma * found.epsilon
        return denoised if denoiser.mask_before_denoising else _held(denoiser, denoised)

    def _idle(self, unguided: list[Tensor], rows: Tensor) -> Tensor:
        still = torch.zeros_like(rows) if self._read.in_timesteps else rows
        unguided.append(still)
        return still


def _held(denoiser: Any, rows: Tensor) -> Tensor:
    """Rows with the kept region as the host holds it for the target's."""
    if denoiser.mask is None:
        return rows
    return rows * denoiser.nmask + denoiser.init_latent * denoiser.mask
