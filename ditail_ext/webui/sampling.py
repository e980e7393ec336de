"""The target's part: start at the inverted latent, if any, and inject at every evaluation of the host's sampler.

The seams are attributes of objects that live as long as one request: ``p.sample``, the sampler's function, its
denoiser's ``forward`` and that of the model it wraps. Unlike the host's callbacks they let exceptions through, and
there is nothing global to undo. UNet calls that do not come from the sampler are never injected.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from modules import devices, shared
from torch import Tensor, nn

from ..core import Injection, RecordedRun, Region, SourceTrajectory, Window
from ..errors import DitailError, InjectionError
from ..settings import Settings
from . import features
from .batch import BatchSampling
from .failure import visible
from .identity import KEY
from .latents import latents_of
from .levels import SamplerPlan
from .mixing import Mix, mixed_target
from .model import encode_prompt, unet_of
from .shown import ContentPicture
from .timing import Part, TimeSplit


class Sampling:
    """Ditail in one request's ``p.sample``.

    Args:
        p: the host's request.
        settings: checked.
        plan: the levels that the sampler will visit.
        trajectories: one for each distinct source, inverted or recorded.
        sources: for each image of the request, over all batches, the index of its trajectory.
        times: takes the seconds of sampling and recording.
        region: where to inject, in pixels (1, 1, H, W) from 0 to 1; everywhere if ``None``.
        contents: what is to be shown beside the results, one for each image.
        mix: what the target is mixed with while the host's sampler runs.
    """

    def __init__(
        self,
        p: Any,
        settings: Settings,
        plan: SamplerPlan,
        trajectories: Sequence[SourceTrajectory | RecordedRun],
        sources: Sequence[int],
        times: TimeSplit,
        region: Tensor | None,
        contents: Sequence[ContentPicture] = (),
        mix: Mix | None = None,
    ) -> None:
        self.contents = tuple(contents)
        self.times = times
        self._settings = settings
        self._plan = plan
        self._trajectories = trajectories
        self._sources = sources
        self._region = region
        self._mix = mix
        self._target = shared.sd_model.sd_checkpoint_info.filename
        self._size = {"width": p.width, "height": p.height, "steps": p.steps}
        self._batch: BatchSampling | None = None
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
        return nullcontext() if self._mix is None else mixed_target(shared.sd_model, self._mix, self.times)

    def failed_to_attach(self, error: Exception) -> None:
        """Keep an error of :meth:`attach`, raised in a callback, to be raised when sampling ends."""
        if self._batch is None:
            raise error
        self._batch.failure = error

    @contextmanager
    def _batch_of(self, p: Any) -> Iterator[BatchSampling]:
        model = shared.sd_model
        if model.sd_checkpoint_info.filename != self._target:
            raise InjectionError("Another extension changed the checkpoint after the inversion; switch it off.")
        first = p.iteration * p.batch_size
        wanted = self._sources[first : first + len(p.prompts)]
        used = sorted(set(wanted))
        trajectories = [self._trajectories[index] for index in used]
        unet = unet_of(model)
        keys = [found.metadata[KEY] for found in trajectories]
        slots = features.slots_for(p, unet, self._settings, keys, self._mix)
        ahead = features.rows_ahead(unet)
        injection = self._injection(unet, trajectories[0].latents)
        empty = encode_prompt(model, "", negative=True, **self._size)
        with injection, ExitStack() as undo:
            rows = [used.index(source) for source in wanted]
            latents = latents_of(trajectories, devices.device)
            self._batch = BatchSampling(
                model, self._plan, latents, rows, injection, empty, undo, self.times, slots, ahead
            )
            try:
                yield self._batch
            finally:
                self._batch = None

    def _injection(self, unet: nn.Module, latents: Tensor) -> Injection:
        settings, steps = self._settings, self._plan.steps
        latent_size = (latents.shape[-2], latents.shape[-1])
        return Injection(
            unet,
            feature_window=Window.from_ratio(settings.feature_ratio, steps, settings.feature_start),
            attention_window=Window.from_ratio(settings.attention_ratio, steps, settings.attention_start),
            feature_weight=settings.feature_weight,
            attention_weight=settings.attention_weight,
            profile=settings.layer_profile,
            region=None if self._region is None else Region.from_pixels(self._region, latent_size),
            shortcut=features.shortcut_for(unet),
        )
