"""The target's part: start at the inverted latent, if any, and inject at every evaluation of the host's sampler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from modules import devices, shared
from torch import Tensor, nn

from ...core import Injection, Region, SourceTrajectory, Surroundings, Trace, Window
from ...settings import Settings
from ..cache.keys import KEY
from ..host.model import encode_prompt, unet_of
from ..host.samplers import SamplerPlan
from ..timing import TimeSplit
from . import features
from .batch import BatchTask, InjectedBatch
from .mix import Mix, mixed_target
from .source_rows import latents_of
from .surroundings import surroundings_of


class Sources(Protocol):
    """What the source has done for a request."""

    def for_images(
        self, first: int, prompts: Sequence[str], negatives: Sequence[str]
    ) -> Sequence[SourceTrajectory | Trace]:
        """Of some of the request's images, the same object for the same source.

        Args:
            first: index of the first image.
            prompts: as they are when sampling starts, one an image.
            negatives: the negative ones.
        """


@dataclass(frozen=True)
class TargetPart:
    """What the target is to do in one request.

    Attributes:
        settings: checked.
        plan: the levels that the sampler will visit.
        sources: gives each image its inverted trajectory, or the trace of a generating run.
        times: takes the seconds of sampling and recording.
        region: where to inject, in pixels (1, 1, H, W) from 0 to 1; everywhere if ``None``.
        mix: what the target is mixed with while the host's sampler runs.
    """

    settings: Settings
    plan: SamplerPlan
    sources: Sources
    times: TimeSplit
    region: Tensor | None = None
    mix: Mix | None = None


class InjectedBatches:
    """The batches of one request, each with its sources."""

    def __init__(self, part: TargetPart) -> None:
        self._part = part

    @contextmanager
    def __call__(self, p: Any) -> Iterator[InjectedBatch]:
        """The batch that the host's request is about to sample."""
        model, part = shared.sd_model, self._part
        first = p.iteration * p.batch_size
        wanted = part.sources.for_images(first, p.prompts, p.negative_prompts)
        sources = list({id(source): source for source in wanted}.values())
        unet = unet_of(model)
        keys = [found.metadata[KEY] for found in sources]
        # What others have hooked is looked at before our own hooks are there.
        slots = features.slots_for(p, unet, part.settings, keys, part.mix)
        ahead = features.rows_ahead(unet)
        empty = encode_prompt(model, "", negative=True, width=p.width, height=p.height, steps=p.steps)
        with surroundings_of(unet) as around, ExitStack() as undo:
            injection = undo.enter_context(self._injection(unet, sources[0].latents, around))
            rows = [next(at for at, source in enumerate(sources) if source is one) for one in wanted]
            task = BatchTask(model, part.plan, latents_of(sources, devices.device), rows, empty, part.times)
            yield InjectedBatch(task, injection, undo, slots, ahead, self._target_mixed)

    def _target_mixed(self) -> AbstractContextManager[None]:
        mix = self._part.mix
        return nullcontext() if mix is None else mixed_target(shared.sd_model, mix, self._part.times)

    def _injection(self, unet: nn.Module, latents: Tensor, surroundings: Surroundings) -> Injection:
        settings, steps = self._part.settings, self._part.plan.steps
        latent_size = (latents.shape[-2], latents.shape[-1])
        return Injection(
            unet,
            feature_window=Window.from_ratio(settings.feature_ratio, steps, settings.feature_start),
            attention_window=Window.from_ratio(settings.attention_ratio, steps, settings.attention_start),
            feature_weight=settings.feature_weight,
            attention_weight=settings.attention_weight,
            profile=settings.layer_profile,
            region=None if self._part.region is None else Region.from_pixels(self._part.region, latent_size),
            shortcut=features.shortcut_for(unet),
            record_every=settings.record_every,
            surroundings=surroundings,
        )
