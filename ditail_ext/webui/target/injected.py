"""The target's part: start at the inverted latent, if any, and inject at every evaluation of the host's sampler.

The seams are attributes of objects that live as long as one request: ``p.sample``, the sampler's function, its
denoiser's ``forward`` and that of the model it wraps. Unlike the host's callbacks they let exceptions through, and
there is nothing global to undo. UNet calls that do not come from the sampler are never injected.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from modules import devices, shared
from torch import Tensor, nn

from ...core import Injection, Region, SourceTrajectory, Trace, Window
from ...errors import DitailError, InjectionError
from ...settings import Settings
from ..cache.keys import KEY
from ..failure import visible
from ..host.model import encode_prompt, unet_of
from ..host.samplers import SamplerPlan
from ..shown import ContentPicture
from ..timing import Part, TimeSplit
from . import features
from .batch import BatchTask, InjectedBatch
from .mix import Mix, mixed_target
from .source_rows import latents_of


@dataclass(frozen=True)
class TargetPart:
    """What the target is to do in one request.

    Attributes:
        settings: checked.
        plan: the levels that the sampler will visit.
        sources: one for each distinct source: an inverted trajectory, or the trace of a generating run.
        of_images: for each image of the request, over all batches, the index of its source.
        times: takes the seconds of sampling and recording.
        region: where to inject, in pixels (1, 1, H, W) from 0 to 1; everywhere if ``None``.
        contents: what is to be shown beside the results, one for each image.
        mix: what the target is mixed with while the host's sampler runs.
    """

    settings: Settings
    plan: SamplerPlan
    sources: Sequence[SourceTrajectory | Trace]
    of_images: Sequence[int]
    times: TimeSplit
    region: Tensor | None = None
    contents: Sequence[ContentPicture] = ()
    mix: Mix | None = None


class InjectedSampling:
    """Ditail in one request's ``p.sample``."""

    def __init__(self, p: Any, part: TargetPart) -> None:
        """Remember the target; nothing is wrapped before :meth:`install`."""
        self.contents = tuple(part.contents)
        self.times = part.times
        self._part = part
        self._target = shared.sd_model.sd_checkpoint_info.filename
        self._size = {"width": p.width, "height": p.height, "steps": p.steps}
        self._batch: InjectedBatch | None = None
        self._original: Callable[..., Any] | None = None

    def install(self, p: Any) -> None:
        """Wrap ``p.sample`` on the instance."""
        self._original = original = p.sample
        self._had_own = "sample" in p.__dict__

        @functools.wraps(original)
        def sample(*args: Any, **kwargs: Any) -> Any:
            if self._original is None:
                return original(*args, **kwargs)
            try:
                with self.times.part(Part.SAMPLE), self._batch_of(p) as batch:
                    result = original(*args, **kwargs)
                    batch.require_attached()
                    return result
            except (DitailError, torch.cuda.OutOfMemoryError) as error:
                raise visible(error) from error

        self._wrapper = p.sample = sample

    def remove(self, p: Any) -> None:
        """Undo :meth:`install`, or, if somebody wrapped ``p.sample`` since, do nothing from now on."""
        if p.__dict__.get("sample") is getattr(self, "_wrapper", None):
            if self._had_own:
                p.sample = self._original
            else:
                p.__dict__.pop("sample", None)
        self._original = None

    def attach(self, sampler: Any, noise: Tensor) -> None:
        """Take hold of the sampler that is about to run the first pass.

        Raises:
            DitailError: the inverted latent does not fit it.
        """
        if self._batch is not None:
            self._batch.attach(sampler, noise, self._target_mixed)

    def _target_mixed(self) -> AbstractContextManager[None]:
        mix = self._part.mix
        return nullcontext() if mix is None else mixed_target(shared.sd_model, mix, self.times)

    def failed_to_attach(self, error: Exception) -> None:
        """Keep an error of :meth:`attach`, raised in a callback, to be raised when sampling ends."""
        if self._batch is None:
            raise error
        self._batch.failure = error

    @contextmanager
    def _batch_of(self, p: Any) -> Iterator[InjectedBatch]:
        model = shared.sd_model
        if model.sd_checkpoint_info.filename != self._target:
            raise InjectionError("Another extension changed the checkpoint after the inversion; switch it off.")
        part = self._part
        first = p.iteration * p.batch_size
        wanted = part.of_images[first : first + len(p.prompts)]
        used = sorted(set(wanted))
        sources = [part.sources[index] for index in used]
        unet = unet_of(model)
        keys = [found.metadata[KEY] for found in sources]
        # What others have hooked is looked at before our own hooks are there.
        slots = features.slots_for(p, unet, part.settings, keys, part.mix)
        ahead = features.rows_ahead(unet)
        injection = self._injection(unet, sources[0].latents)
        empty = encode_prompt(model, "", negative=True, **self._size)
        with injection, ExitStack() as undo:
            rows = [used.index(source) for source in wanted]
            task = BatchTask(model, part.plan, latents_of(sources, devices.device), rows, empty, self.times)
            self._batch = InjectedBatch(task, injection, undo, slots, ahead)
            try:
                yield self._batch
            finally:
                self._batch = None

    def _injection(self, unet: nn.Module, latents: Tensor) -> Injection:
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
        )
