"""Notes what the UNet is given, evaluation by evaluation, while a sampler of the host runs."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from ...core import Level, NoiseSchedule
from ..host.samplers import LevelReader


class RunTracer:
    """A context in which a sampler's evaluations are noted; UNet calls that are not its own are not.

    Attributes:
        levels: of the evaluations so far.
    """

    def __init__(self, sampler: Any, unet: nn.Module, schedule: NoiseSchedule, channels: int) -> None:
        """Wrap the sampler, which is nobody else's.

        Args:
            sampler: made for this run.
            unet: the loaded model's.
            schedule: the loaded model's.
            channels: of a latent; inpainting models give their UNet more.
        """
        self.levels: list[Level] = []
        self._latents: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._calling = False
        self._unet = unet
        self._channels = channels
        self._read = LevelReader(sampler, schedule)
        denoiser = sampler.model_wrap_cfg
        wrapped = denoiser.inner_model
        denoiser.__dict__["forward"] = self._evaluated(denoiser.forward)
        wrapped.__dict__["forward"] = self._called(wrapped.forward)
        self._handle: Any = None

    def __enter__(self) -> RunTracer:
        self._handle = self._unet.register_forward_pre_hook(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()

    @property
    def latents(self) -> Tensor:
        """(evaluations, B, C, H, W), as the UNet was given them, on the CPU."""
        return torch.stack(self._latents).cpu()

    def _evaluated(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def evaluate(x: Tensor, sigma: Tensor, **kwargs: Any) -> Any:
            self._rows = []
            result = forward(x, sigma, **kwargs)
            self.levels.append(self._read(float(sigma.flatten()[0])))
            rows = torch.cat(self._rows)[_first_rows(kwargs["cond"])]  # a copy
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


def _first_rows(cond: Any) -> list[int]:
    """The first row of each image in the order in which the denoiser evaluates them, several an image with ``AND``."""
    counts = [len(parts) for parts in cond.batch]
    return [sum(counts[:index]) for index in range(len(counts))]
