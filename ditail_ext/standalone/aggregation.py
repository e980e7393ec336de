"""The further checkpoints of a job, side by side with the target for as long as they are merged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from ..core import Aggregation, Companion, Companions, Estimate, Level, Prompts, Slerp, Window, guided_noise
from ..errors import CheckpointError
from .checkpoint import open_checkpoint
from .further import Aggregated, Further
from .model import Compute, Model
from .parameters import Sampling


class FurtherModels:
    """A job's further checkpoints; their UNets load when the sampling begins and go when it no longer needs them."""

    def __init__(self, aggregated: Aggregated, sampling: Sampling, target: Model, compute: Compute) -> None:
        """Look at the files.

        Raises:
            DitailError: weights or window mean nothing, a file cannot be used, or its latents are not the target's.
        """
        self._aggregated = aggregated
        self._sampling = sampling
        self._schedule = target.schedule
        share = Window.from_ratio(aggregated.ratio, sampling.steps, aggregated.start)
        self._aggregation = Aggregation(Slerp.beside_target([own.weight for own in aggregated.models]), share)
        self._models = [Model(open_checkpoint(own.checkpoint), compute) for own in aggregated.models]
        for model in self._models:
            model.check()
            _require_same_space(model, target)

    @property
    def infotext(self) -> dict[str, object]:
        """Keys and values for the picture's parameters."""
        return self._aggregated.infotext([model.title for model in self._models])

    def companions(self) -> Companions:
        """For one run of the target; the prompts are encoded before it."""
        pairs = zip(self._aggregated.models, self._models, strict=True)
        companions = [Companion(self._estimate(own, model)) for own, model in pairs]
        return Companions(self._aggregation, companions, self._schedule, self.release)

    def release(self) -> None:
        """Free the networks."""
        for model in self._models:
            model.release()

    def _estimate(self, own: Further, model: Model) -> Estimate:
        sampling = self._sampling
        prompts = Prompts(
            positive=model.encode_prompt(own.prompt or sampling.prompt),
            negative=model.encode_prompt(own.negative_prompt or sampling.negative_prompt),
            empty=model.encode_prompt(""),
        )
        guided = guided_noise(model.predict_noise, prompts, cfg_scale=sampling.cfg_scale)

        def estimate(latent: Tensor, level: Level) -> Tensor:
            epsilon = guided(latent, level)
            model.require_numbers(epsilon)  # once merged, nobody could say whose it was
            return epsilon

        return estimate


@contextmanager
def beside(further: FurtherModels | None) -> Iterator[Companions | None]:
    """The companions of one run; their memory is given back however it ends."""
    if further is None:
        yield None
        return
    try:
        yield further.companions()
    finally:
        further.release()


def _require_same_space(model: Model, target: Model) -> None:
    ours, theirs = target.checkpoint.config, model.checkpoint.config
    for key in ("scale_factor", "linear_start", "linear_end"):
        if float(ours[key]) != float(theirs[key]):
            raise CheckpointError(
                f"{model.checkpoint.name} has another {key} than the target, so their latents cannot be merged; "
                "choose a checkpoint of the target's family."
            )
