"""One batch of a request: what each evaluation of the host's sampler does."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...core import BankSlot, Condition, FeatureBank, Injection, Levels, SourcePass, SourceRecorder
from ...errors import InjectionError, UnsupportedModelError
from ..host import foreign, kinds
from ..host.model import noise_predictor, precision, schedule_of
from ..host.progress import broken_off
from ..host.samplers import LevelReader, SamplerPlan
from ..timing import Part, TimeSplit
from .kept_region import KeptRegion
from .sampling import gone_around, unannounced
from .source_rows import ImageSources, SourceLatent, SourceLatents, require_same_size

START_TOLERANCE = 1e-4
"""Relative difference of sigma between where the sampler starts and where the inversion ended."""


@dataclass(frozen=True)
class BatchTask:
    """One batch of a request.

    Attributes:
        model: the host's, loaded: the target.
        plan: the levels that the sampler will visit.
        latents: of the batch's distinct sources.
        sources: for each image the index of its source among these.
        empty: the target's encoding of the empty prompt, for the source's rows.
        times: takes the seconds of recording.
    """

    model: Any
    plan: SamplerPlan
    latents: SourceLatents
    sources: Sequence[int]
    empty: Condition
    times: TimeSplit


class InjectedBatch:
    """One batch: the wrapped sampler, and what each of its evaluations does.

    Attributes:
        failure: an error of the callback in which the sampler is taken hold of.
    """

    def __init__(
        self,
        task: BatchTask,
        injection: Injection,
        undo: ExitStack,
        slots: Callable[[Hashable], BankSlot] | None = None,
        most_rows: Callable[[Tensor], int] | None = None,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """
        Args:
            task: what is to be sampled.
            injection: entered.
            undo: takes what :meth:`attach` has to be undone.
            slots: where recordings are cached between generations, by place.
            most_rows: how many of the source's rows a call may record (see ``SourceRecorder``).
            around: a context for the time in which the sampler's function runs.
        """
        self._model = task.model
        self._kind = kinds.of(task.model)
        self._plan = task.plan
        self._latents = task.latents
        self._images = ImageSources(task.sources)
        self._empty = task.empty
        self._times = task.times
        self._injection = injection
        self._undo = undo
        self._around = around
        self._recorder = SourceRecorder(injection, self._pass_source, slots, most_rows)
        self._bank: FeatureBank | None = None
        self._image_cond: Tensor | None = None
        self._step = 0
        self._evaluation = 0
        self._replays = 0
        self._rows: Iterator[int] = iter(())
        self._attached = False
        self.failure: Exception | None = None

    def attach(self, sampler: Any, noise: Tensor) -> None:
        """Wrap the sampler's function, its denoiser and the model that this wraps; see :class:`~.sampling.Batch`."""
        denoiser = sampler.model_wrap_cfg
        shape = self._latents.shape
        if shape[1:] != tuple(noise.shape[1:]) or len(self._images) != noise.shape[0]:
            raise InjectionError(
                f"The sampler works on latents of shape {tuple(noise.shape)}, but {len(self._images)} of shape "
                f"{shape[1:]} have a source; another extension changes the size or batch: switch it off."
            )
        read = LevelReader(sampler, schedule_of(self._model))
        wrapped = denoiser.inner_model
        if self._latents.start is not None:
            replace(self._undo, sampler, "func", self._started(sampler.func, self._latents.start))
        replace(self._undo, sampler, "func", _within(self._around, sampler.func))
        replace(self._undo, denoiser, "forward", self._evaluated(denoiser, denoiser.forward, wrapped, read))
        owner, name = self._kind.sampler_call(denoiser)
        replace(self._undo, owner, name, self._replayed(getattr(owner, name)))
        self._attached = True

    @property
    def starts_elsewhere(self) -> bool:
        """Whether the sampler starts at the sources' latents, and not at the host's noise."""
        return self._latents.start is not None

    def require_attached(self, other: str | None) -> None:
        """Check that the sampler that just ran was ours.

        Raises:
            Exception: the one that kept us from taking hold of it.
            InjectionError: the host never announced its sampler.
        """
        if self.failure is not None:
            raise self.failure
        if not self._attached:
            raise unannounced(other)

    def _refuse_patches(self) -> None:
        """Refuse what other extensions have asked the host to do with the UNet, which it does only while sampling."""
        patched = self._kind.patched(self._model)
        if patched is not None:
            who, does = patched
            raise UnsupportedModelError(f"'{who}' {does}; switch it or Ditail off.")

    def _started(self, function: Callable[..., Any], inverted: Tensor) -> Callable[..., Any]:
        """The sampler's function, started at the inverted latents whatever the host made for it."""

        @functools.wraps(function)
        def start(model: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
            self._check_start(kwargs)
            return function(model, self._plan.start_of(self._images.of_rows(inverted)).to(x), *args, **kwargs)

        return start

    def _check_start(self, arguments: dict[str, Any]) -> None:
        listed = arguments.get("sigmas", arguments.get("sigma_max"))
        if listed is None or self._plan.in_timesteps:
            return
        sigma, expected = float(torch.as_tensor(listed).flatten()[0]), self._plan.levels[0].sigma
        if abs(sigma - expected) > START_TOLERANCE * expected:
            raise InjectionError(
                f"The sampler starts at sigma {sigma:.5g}, but the picture was inverted to {expected:.5g}; another "
                "extension changes the schedule: switch it off."
            )

    def _evaluated(
        self, denoiser: Any, forward: Callable[..., Any], wrapped: Any, read: LevelReader
    ) -> Callable[..., Any]:
        """The denoiser's ``forward`` with the record pass before it."""
        kept = KeptRegion(denoiser, self._plan.in_timesteps, self._kind.masks_with_noise)

        def evaluate(x: Tensor, sigma: Tensor, **kwargs: Any) -> Any:
            if broken_off() or denoiser.inner_model is not wrapped:  # the latter: the refiner has taken over
                return forward(x, sigma, **kwargs)
            self._refuse_patches()
            require_same_size(x, self._latents.shape)
            source = self._latents.at(self._evaluation, read(float(sigma.flatten()[0])))
            self._step = self._plan.step_at(source.level.sigma)
            self._image_cond = kwargs.get("image_cond")
            with self._times.part(Part.RECORD):
                self._bank = self._recorder.bank(self._as_pass(source), self._coming())
            self._evaluation += 1
            self._rows = self._images.of_conditions(kwargs["cond"], whole=self._kind.whole_conditions)
            replayed = self._replays
            latents = self._images.of_rows(source.latents)
            result = kept.evaluated(lambda held: forward(held, sigma, **kwargs), x, latents, sigma)
            # A refiner takes over within an evaluation, which then is its own.
            if self._replays == replayed and denoiser.inner_model is wrapped and not broken_off():
                raise InjectionError(
                    "This WebUI's sampler, or another extension, goes around the model that Ditail injects into; use "
                    "AUTOMATIC1111's WebUI 1.10, reForge or Forge, or switch that extension off."
                )
            return result

        return evaluate

    def _replayed(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The wrapped model's ``forward``, which the denoiser calls once or several times an evaluation."""

        def replay(rows: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self._evaluation == 0:  # the denoiser's class was called, not what stands on the object
                raise gone_around()
            one_source = self._latents.shape[0] == 1
            sources = None if one_source else list(itertools.islice(self._rows, rows.shape[0]))
            self._replays += 1
            with self._injection.replay(self._step, self._bank, sources):
                return forward(rows, *args, **kwargs)

        return replay

    def _as_pass(self, source: SourceLatent) -> SourcePass:
        return SourcePass(self._plan.step_at(source.level.sigma), source.level, source.latents, source.place)

    def _coming(self) -> Iterator[SourcePass]:
        return map(self._as_pass, self._latents.coming(self._evaluation, self._plan.levels[self._step + 1 :]))

    def _pass_source(self, rows: Tensor, levels: Levels) -> None:
        """Pass the source's rows, of one level or of several, through the target's UNet."""
        own = None
        if self._image_cond is not None:
            own = self._images.of_sources(self._image_cond)
            own = torch.cat([own] * (rows.shape[0] // own.shape[0]))
        with foreign.set_aside(self._model), precision():
            noise_predictor(self._model, own)(rows, levels, self._empty)


def replace(undo: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute of an object for as long as ``undo`` is open.

    Not by ``setattr``: a module that is set as another module's attribute would become its child.
    """
    had_own, before = name in owner.__dict__, owner.__dict__.get(name)

    def restore() -> None:
        if had_own:
            owner.__dict__[name] = before
        else:
            owner.__dict__.pop(name, None)

    undo.callback(restore)
    owner.__dict__[name] = value


def _within(around: Callable[[], AbstractContextManager[None]], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with around():
            return function(*args, **kwargs)

    return run
