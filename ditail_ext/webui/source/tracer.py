"""Notes what the UNet is given, evaluation by evaluation, while a sampler of the host runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from ...core import Level
from ...errors import InjectionError
from ..host import kinds
from ..host.model import schedule_of, unet_of
from ..host.samplers import LevelReader


class RunTracer:
    """A context in which a sampler's evaluations are noted; UNet calls that are not its own are not.

    Attributes:
        levels: of the evaluations so far.
    """

    def __init__(self, sampler: Any, model: Any, channels: int) -> None:
        """Nothing is wrapped before the context is entered.

        Args:
            sampler: made for this run.
            model: the host's, at work.
            channels: of a latent; inpainting models give their UNet more.
        """
        self.levels: list[Level] = []
        self._latents: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._calling = False
        self._kind = kinds.of(model)
        self._unet = unet_of(model)
        self._channels = channels
        self._read = LevelReader(sampler, schedule_of(model))
        self._denoiser = sampler.model_wrap_cfg
        self._undo = ExitStack()

    def __enter__(self) -> RunTracer:
        owner, name = self._kind.sampler_call(self._denoiser)
        with ExitStack() as undo:
            undo.enter_context(_set(self._denoiser, "forward", self._evaluated(self._denoiser.forward)))
            undo.enter_context(_set(owner, name, self._called(getattr(owner, name))))
            undo.callback(self._unet.register_forward_pre_hook(self._note).remove)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    @property
    def latents(self) -> Tensor:
        """(evaluations, B, C, H, W), as the UNet was given them, on the CPU."""
        return torch.stack(self._latents).cpu()

    def _evaluated(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def evaluate(x: Tensor, sigma: Tensor, **kwargs: Any) -> Any:
            if self._latents and x.shape[-2:] != self._latents[0].shape[-2:]:
                raise InjectionError(
                    "This sampler works on the picture in several sizes; choose one that keeps it (not a 'Dy' or "
                    "'SMEA' one)."
                )
            self._rows = []
            result = forward(x, sigma, **kwargs)
            self.levels.append(self._read(float(sigma.flatten()[0])))
            rows = torch.cat(self._rows)[self._first_rows(kwargs["cond"])]  # a copy
            self._latents.append(rows[:, : self._channels])
            return result

        return evaluate

    def _called(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._calling = True
            try:
                return forward(*args, **kwargs)
            finally:
                self._calling = False

        return call

    def _note(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._calling:
            self._rows.append(args[0].detach())

    def _first_rows(self, cond: Any) -> list[int]:
        """The first row of each image in the order in which the denoiser evaluates them, several with ``AND``."""
        counts = [1 if self._kind.whole_conditions else len(parts) for parts in cond.batch]
        return [sum(counts[:index]) for index in range(len(counts))]


@contextmanager
def _set(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An instance's attribute for a while."""
    had_own, before = name in vars(owner), vars(owner).get(name)
    vars(owner)[name] = value
    try:
        yield
    finally:
        if had_own:
            vars(owner)[name] = before
        else:
            del vars(owner)[name]
