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
from typing import Any, NoReturn, Protocol

from modules import devices, shared
from torch import Tensor, nn

from ...core import Injection, Region, SourceTrajectory, Trace, Window
from ...errors import DitailError, InjectionError
from ...settings import Settings
from ..cache.keys import KEY
from ..failure import raise_visibly, visible
from ..host import kinds
from ..host.model import encode_prompt, unet_of
from ..host.progress import InversionStopped
from ..host.samplers import SamplerPlan
from ..shown import ContentPicture
from ..timing import Part, TimeSplit
from . import features
from .batch import BatchTask, InjectedBatch
from .mix import Mix, mixed_target
from .source_rows import latents_of

_OF_NOISE = ("Noise multiplier", "Extra noise")
"""The host's options about img2img's noise, as its infotext names them."""

_ATTRIBUTE = "ditail_sampling"
"""Attribute of the host's request that carries its sampling from one callback to the next."""


def _refuse(error: BaseException, *_: object, **__: object) -> NoReturn:
    raise error


def _forget_noise(p: Any) -> None:
    """Options about the noise that the host adds to a picture say nothing where the start is the inverted latent."""
    for name in _OF_NOISE:
        if p.extra_generation_params.pop(name, None) is not None:
            p.comment(f"Ditail: {name}: without effect, because sampling starts at the inverted picture.")


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
        contents: what is to be shown beside the results, one for each image.
        mix: what the target is mixed with while the host's sampler runs.
    """

    settings: Settings
    plan: SamplerPlan
    sources: Sources
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
        self._owner: Any = None

    @staticmethod
    def of(p: Any) -> InjectedSampling | None:
        """The sampling that a request owns; copies, which other extensions make of a request, own none."""
        found: InjectedSampling | None = p.__dict__.get(_ATTRIBUTE)
        return found if found is not None and found._owner is p else None

    def install(self, p: Any) -> None:
        """Wrap ``p.sample`` on the instance, around whatever other extensions have put there by now.

        The wrapper looks up the sampling that the request owns when it is called. So one that another extension keeps
        for ever (ControlNet keeps the first ``p.sample`` that it meets) serves later runs of the same request, too,
        and does nothing where another wrapper is at work already.
        """
        original = p.sample
        self._owner, self._before = p, p.__dict__.get("sample")

        @functools.wraps(original)
        def sample(*args: Any, **kwargs: Any) -> Any:
            current = InjectedSampling.of(p)
            if current is None or current._batch is not None:
                return original(*args, **kwargs)
            return current._run(p, functools.partial(original, *args, **kwargs))

        self._wrapper = p.sample = sample
        setattr(p, _ATTRIBUTE, self)

    def _run(self, p: Any, sample: Callable[[], Any]) -> Any:
        try:
            with self.times.part(Part.SAMPLE), self._batch_of(p) as batch:
                result = sample()
                batch.require_attached()
                if batch.starts_elsewhere:
                    _forget_noise(p)
                return result
        except InversionStopped as stopped:  # a prompt had changed, and the picture was being inverted again
            told = InjectionError("Ditail was stopped before the picture was begun; generate again.")
            raise visible(told) from stopped
        except (DitailError, RuntimeError, MemoryError) as error:
            kinds.of(shared.sd_model).after_failure(shared.sd_model)
            raise_visibly(error)
        finally:
            features.make_room()

    def remove(self, p: Any) -> None:
        """Undo :meth:`install`, or, if somebody wrapped ``p.sample`` since, do nothing from now on."""
        if InjectedSampling.of(p) is not self:
            return
        del p.__dict__[_ATTRIBUTE]
        if p.__dict__.get("sample") is self._wrapper:
            if self._before is None:
                del p.__dict__["sample"]
            else:
                p.sample = self._before

    def attach(self, sampler: Any, noise: Tensor) -> None:
        """Take hold of the sampler that is about to run the first pass.

        Raises:
            DitailError: the inverted latent does not fit it.
        """
        if self._batch is not None:
            self._batch.attach(sampler, noise, self._target_mixed)
            return
        # Nobody called our wrapper: another extension has put p.sample back. This runs in a callback of the host,
        # which swallows exceptions, so the sampler itself has to refuse.
        refusal = visible(
            InjectionError("Another extension goes around Ditail's part in sampling; switch it off for this picture.")
        )
        sampler.sample = sampler.sample_img2img = functools.partial(_refuse, refusal)

    def _target_mixed(self) -> AbstractContextManager[None]:
        mix = self._part.mix
        return nullcontext() if mix is None else mixed_target(shared.sd_model, mix, self.times)

    def failed_to_attach(self, error: Exception) -> None:
        """Keep an error of :meth:`attach`, raised in a callback, to be raised when sampling ends."""
        if self._batch is not None:
            self._batch.failure = error

    @contextmanager
    def _batch_of(self, p: Any) -> Iterator[InjectedBatch]:
        model = shared.sd_model
        if model.sd_checkpoint_info.filename != self._target:
            raise InjectionError("Another extension changed the checkpoint after the inversion; switch it off.")
        part = self._part
        first = p.iteration * p.batch_size
        wanted = part.sources.for_images(first, p.prompts, p.negative_prompts)
        sources = list({id(source): source for source in wanted}.values())
        unet = unet_of(model)
        keys = [found.metadata[KEY] for found in sources]
        # What others have hooked is looked at before our own hooks are there.
        slots = features.slots_for(p, unet, part.settings, keys, part.mix)
        ahead = features.rows_ahead(unet)
        injection = self._injection(unet, sources[0].latents)
        empty = encode_prompt(model, "", negative=True, **self._size)
        with injection, ExitStack() as undo:
            rows = [next(at for at, source in enumerate(sources) if source is one) for one in wanted]
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
