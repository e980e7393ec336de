"""The further checkpoints of one batch: in memory for the window's steps, and at work by turns with the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from modules import devices
from torch import Tensor

from ...core import Level, NoiseSchedule
from ...errors import AggregationError, CheckpointError
from ..host import foreign, kinds, networks
from ..host.beside.loaded import notes_restored
from ..host.beside.second_model import SecondModel
from ..host.model import precision, schedule_of
from ..host.progress import InversionStopped, broken_off
from ..source.models import give_back, take
from ..timing import Part, TimeSplit
from .asked import Further
from .guidance import Conditions, Guided, guided_noise


class Companion:
    """A further checkpoint's model with a batch's prompts, as it encodes them, and its own networks."""

    def __init__(self, further: Further, second: SecondModel, p: Any) -> None:
        """Encode the prompts.

        Args:
            further: the checkpoint.
            second: its model, waiting.
            p: the host's request, about to sample a batch.

        Raises:
            DitailError: a network of its own prompt cannot be loaded.
        """
        self._further = further
        self._second = second
        own = [further.prompt, further.negative_prompt]
        prompts, negatives = (
            [text or main for main in mains] for text, mains in zip(own, (p.prompts, p.negative_prompts), strict=True)
        )
        with self._second.at_work(stay=True) as model, _alone(model), networks.none_active():
            self.schedule = schedule_of(model)
            # Its networks are held here by reference: the host forgets what it has read for another model.
            with networks.active(further.tags, f"{further.argument}_prompt"), devices.autocast():
                self._conditions = Conditions.of(model, prompts, negatives, p)
                self._networks = networks.active_lists()

    def guided(self, rows: Tensor, level: Level, evaluation: int, cfg_scale: float) -> Guided:
        """Its estimates for VP latents; see :func:`~.guidance.guided_noise`.

        Raises:
            CheckpointError: it computed no numbers; once merged, nobody could say whose they were.
        """
        own = Level(self.schedule.at_sigma(level.sigma).timestep, level.alpha_bar)
        with self._second.at_work(stay=True) as model, _alone(model), networks.only(self._networks), precision():
            found = guided_noise(model, rows, own, self._conditions, evaluation=evaluation, cfg_scale=cfg_scale)
        if not bool(found.epsilon.isfinite().all()):
            raise CheckpointError(
                f"{self._further.argument}: '{self._further.info.title}' computed something that is not a number; "
                "start the WebUI with --no-half, or choose another."
            )
        return found

    def release(self) -> None:
        """Leave the device, and wait in main memory for the next picture, if the budget allows."""
        self._second.leave()
        give_back(self._second)


class Companions:
    """All further checkpoints of one batch.

    Attributes:
        models: in the order of the request.
    """

    def __init__(self) -> None:
        self.models: list[Companion] = []

    def open(self, p: Any, wanted: Sequence[Further], schedule: NoiseSchedule, times: TimeSplit) -> None:
        """Load them, and let them encode the batch's prompts.

        Args:
            p: the host's request, about to sample a batch.
            wanted: the checkpoints.
            schedule: the target's.
            times: takes the seconds of loads and moves.

        Raises:
            InversionStopped: Interrupt or Skip was pressed.
            DitailError: one cannot be used.
        """
        gpus = [devices.device] if devices.device.type == "cuda" else []
        # Loading a model draws random numbers: the generation's are afterwards what they were.
        with torch.random.fork_rng(devices=gpus), torch.no_grad(), notes_restored():
            for further in wanted:
                second = take(further.info, times, further.argument)
                try:
                    with times.part(Part.MOVE):
                        companion = Companion(further, second, p)
                except BaseException:
                    second.leave()
                    give_back(second)
                    raise
                self.models.append(companion)
                _require_same_levels(further, companion.schedule, schedule)
                if broken_off():
                    raise InversionStopped

    def release(self) -> None:
        """Let them go; to be called once more does nothing."""
        while self.models:
            self.models.pop().release()


@contextmanager
def _alone(model: Any) -> Iterator[None]:
    """A model's computing as it would alone: averaged weights, if it has any, and nothing of other extensions."""
    with ExitStack() as stack:
        stack.enter_context(kinds.of(model).averaged(model))
        stack.enter_context(foreign.set_aside(model))
        yield


def _require_same_levels(further: Further, own: NoiseSchedule, target: NoiseSchedule) -> None:
    """A level of the target's has to be one of its: merged are latents of one level."""
    top = float(target.alpha_bar[-1])
    if float(own.alpha_bar[-1]) > top * (1 + 1e-3) + 1e-4:
        raise AggregationError(
            f"{further.argument}: '{further.info.title}' was not trained on as much noise as the target (zero "
            "terminal SNR); choose another, or set the noise schedule to Default."
        )
