"""Whose sampling it is: the host's request's, for one call of its ``p.sample``.

The seams are attributes of objects that live as long as one request: ``p.sample``, the sampler's function, its
denoiser's ``forward`` and that of the model it wraps. Unlike the host's callbacks they let exceptions through, and
there is nothing global to undo. UNet calls that do not come from the sampler are never injected.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn, Protocol

from modules import shared
from torch import Tensor

from ...errors import DitailError, InjectionError
from ..failure import raise_visibly, visible
from ..host import foreign, kinds
from ..host.progress import InversionStopped
from ..shown import ContentPicture
from ..timing import Part, TimeSplit
from . import features

_OF_NOISE = ("Noise multiplier", "Extra noise")
"""The host's options about img2img's noise, as its infotext names them."""

_ATTRIBUTE = "ditail_sampling"
"""Attribute of the host's request that carries its sampling from one callback to the next."""


class Batch(Protocol):
    """What is done to the sampler of one batch of a request.

    Attributes:
        failure: an error of the callback in which the sampler is taken hold of.
    """

    failure: Exception | None

    @property
    def starts_elsewhere(self) -> bool:
        """Whether the sampler does not start at the host's noise."""
        ...

    def attach(self, sampler: Any, noise: Tensor) -> None:
        """Take hold of the sampler, which is about to run the first pass on the host's noise.

        Raises:
            DitailError: it cannot do what is wanted.
        """
        ...

    def require_attached(self, other: str | None) -> None:
        """Check that the sampler that just ran was ours.

        Args:
            other: the extension that has put a function of its own for ``p.sample``, if one has.

        Raises:
            Exception: the one that kept us from taking hold of it.
            InjectionError: the host never announced its sampler.
        """
        ...


Batches = Callable[[Any], AbstractContextManager[Batch]]
"""Of a request that is about to be sampled the batch at hand; all that it acquires is released with the context."""


def refuse_own_sampling(p: Any) -> None:
    """Refuse a request of a script that has put a function of its own in the place of ``p.sample``, not around it.

    Raises:
        InjectionError: one has; whatever it calls, it announces no sampler.
    """
    function = p.__dict__.get("sample")
    code, scripts = getattr(function, "__code__", None), getattr(p, "scripts", None)
    if code is None or scripts is None:
        return
    around = any(getattr(_content(cell), "__name__", "") == "sample" for cell in function.__closure__ or ())
    if not around and code.co_filename in {script.filename for script in scripts.selectable_scripts}:
        raise unannounced(None)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _refuse(error: BaseException, *_: object, **__: object) -> NoReturn:
    raise error


def gone_around() -> InjectionError:
    """What to say where the host samples, and not through what Ditail has put in the way."""
    return InjectionError("Another extension goes around Ditail's part in sampling; switch it off for this picture.")


def unannounced(other: str | None) -> InjectionError:
    """What is said of a picture whose sampler the host never announced.

    Args:
        other: see :meth:`Batch.require_attached`; it may have called the sampler as it should, and a script not.
    """
    who = "A script" if other is None else f"A script, or '{other}',"
    return InjectionError(
        f"{who} samples in a way of its own (as 'img2img alternative test' does), so Ditail has no part in it; choose "
        "another script, or switch it off."
    )


def _forget_noise(p: Any) -> None:
    """Options about the noise that the host adds to a picture say nothing where the start is the inverted latent."""
    for name in _OF_NOISE:
        if p.extra_generation_params.pop(name, None) is not None:
            p.comment(f"Ditail: {name}: without effect, because sampling starts at the inverted picture.")


class TargetSampling:
    """Ditail in one request's ``p.sample``.

    Attributes:
        times: where the request's seconds go.
        contents: what is to be shown beside the results, one for each image.
    """

    def __init__(self, batches: Batches, times: TimeSplit, contents: Sequence[ContentPicture] = ()) -> None:
        """Remember the target; nothing is wrapped before :meth:`install`."""
        self.times = times
        self.contents = tuple(contents)
        self._batches = batches
        self._target = shared.sd_model.sd_checkpoint_info.filename
        self._batch: Batch | None = None
        self._owner: Any = None

    @staticmethod
    def of(p: Any) -> TargetSampling | None:
        """The sampling that a request owns; copies, which other extensions make of a request, own none."""
        found: TargetSampling | None = p.__dict__.get(_ATTRIBUTE)
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
            current = TargetSampling.of(p)
            if current is None or current._batch is not None:
                return original(*args, **kwargs)
            return current._run(p, functools.partial(original, *args, **kwargs))

        self._wrapper = p.sample = sample
        setattr(p, _ATTRIBUTE, self)

    def _run(self, p: Any, sample: Callable[[], Any]) -> Any:
        try:
            self._require_target()
            with self.times.part(Part.SAMPLE), self._batches(p) as batch:
                self._batch = batch
                result = sample()
                batch.require_attached(foreign.extension_of(self._before))
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
            self._batch = None
            features.make_room()

    def _require_target(self) -> None:
        if shared.sd_model.sd_checkpoint_info.filename != self._target:
            raise InjectionError(
                "The checkpoint was changed after the inversion, in the page or by another extension; generate again."
            )

    def remove(self, p: Any) -> None:
        """Undo :meth:`install`, or, if somebody wrapped ``p.sample`` since, do nothing from now on."""
        if TargetSampling.of(p) is not self:
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
            self._batch.attach(sampler, noise)
            return
        # Nobody called our wrapper: another extension has put p.sample back. This runs in a callback of the host,
        # which swallows exceptions, so the sampler itself has to refuse.
        refusal = visible(gone_around())
        sampler.sample = sampler.sample_img2img = functools.partial(_refuse, refusal)

    def failed_to_attach(self, error: Exception) -> None:
        """Keep an error of :meth:`attach`, raised in a callback, to be raised when sampling ends."""
        if self._batch is not None:
            self._batch.failure = error
