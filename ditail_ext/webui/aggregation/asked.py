"""What a request asks of further checkpoints, looked at before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modules import shared
from modules.processing_scripts.comments import strip_comments

from ...core import Aggregation, Slerp, Window
from ...errors import AggregationError, UnsupportedModelError
from ...settings import NO_MIX, Settings
from ..cache import identity
from ..host import kinds
from ..host.checkpoints import check_families, check_file
from ..host.installed import find_checkpoint
from ..host.samplers import SamplerPlan
from ..host.tags import check_tags, strip_tags

WITHOUT_A_STEP_OF_THEIR_OWN = {
    "DPM fast": "makes steps of different orders",
    "DPM adaptive": "chooses its steps as it goes",
    "Restart": "goes back up to noise on its way",
    "UniPC": "evaluates a guess and goes on from another latent",
    "LCM": "scales its estimates in a way of its own",
}
"""Samplers of the host whose latents cannot be merged from outside, and why."""


@dataclass(frozen=True)
class Further:
    """One further checkpoint of a request.

    Attributes:
        argument: the setting that names it.
        info: the host's ``CheckpointInfo``.
        weight: its share of the merged latents.
        prompt: without tags of networks; the main one if empty.
        negative_prompt: without tags; the main one if empty.
        tags: the networks, by kind, that its own prompts ask for.
    """

    argument: str
    info: Any
    weight: float
    prompt: str
    negative_prompt: str
    tags: Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Asked:
    """The further checkpoints of a request, and the share of its steps in which they take part."""

    models: tuple[Further, ...]
    ratio: float
    start: float

    def for_steps(self, steps: int) -> Aggregation:
        """The rule for a run of so many steps.

        Raises:
            AggregationError: no step lies in the window.
        """
        window = Window.from_ratio(self.ratio, steps, self.start)
        if not len(window):
            raise AggregationError(
                f"aggregation_ratio: no step of {steps} lies between {self.start:g} and {self.ratio:g}; raise the "
                "ratio or the steps."
            )
        return Aggregation(Slerp.beside_target([one.weight for one in self.models]), window)


def find_further(settings: Settings, target: Any) -> Asked | None:
    """The further checkpoints that a request names; ``None`` if it names none.

    Args:
        settings: checked.
        target: the loaded model.

    Raises:
        DitailError: weights or window mean nothing, a checkpoint is not there or cannot be used, or its latents are
            not the target's.
    """
    named = settings.aggregated
    if not named:
        return None
    if not kinds.of(target).several_models:
        raise UnsupportedModelError(
            f"{named[0]}: several checkpoints side by side work in AUTOMATIC1111's WebUI alone; choose "
            f"'{NO_MIX}' here."
        )
    if settings.aggregation_start >= settings.aggregation_ratio:
        raise AggregationError(
            f"aggregation_ratio: merging would end at {settings.aggregation_ratio:g}, before it begins at "
            f"{settings.aggregation_start:g}; raise the ratio or lower the start."
        )
    try:
        Slerp.beside_target([getattr(settings, f"{argument}_weight") for argument in named])
    except AggregationError as error:
        raise AggregationError(f"{named[-1]}_weight: {error}") from error
    models = tuple(_further(settings, argument, target) for argument in named)
    return Asked(models, settings.aggregation_ratio, settings.aggregation_start)


def _further(settings: Settings, argument: str, target: Any) -> Further:
    info = find_checkpoint(getattr(settings, argument), argument)
    facts = check_file(info, argument)
    if facts.is_sdxl is not None:
        check_families(info, facts.is_sdxl, target, argument)
    tags: dict[str, list[Any]] = {}
    texts = []
    for name in ("prompt", "negative_prompt"):
        own = getattr(settings, f"{argument}_{name}")
        # The main prompts are rid of comments by the host; these it has never seen.
        commented = bool(getattr(shared.opts, "enable_prompt_comments", False))
        text, found = strip_tags(strip_comments(own) if commented else own)
        check_tags(found, f"{argument}_{name}")
        texts.append(text.strip())
        for kind, params in found.items():
            tags.setdefault(kind, []).extend(params)
    return Further(argument, info, getattr(settings, f"{argument}_weight"), texts[0], texts[1], tags)


def further_files(settings: Settings) -> list[list[Any]]:
    """What identifies the files that a request names.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    found = (find_checkpoint(getattr(settings, argument), argument) for argument in settings.aggregated)
    return [identity.of_checkpoint(info) for info in found]


def refuse_what_cannot_merge(p: Any, asked: Asked, plan: SamplerPlan) -> None:
    """Refuse samplers whose step is not theirs alone, and a refiner that takes over too early.

    Raises:
        AggregationError: as said, or no step lies in the window.
    """
    why = WITHOUT_A_STEP_OF_THEIR_OWN.get(p.sampler_name)
    if why is not None:
        raise AggregationError(
            f"{p.sampler_name} {why}, so the latents of several checkpoints cannot be merged along it; choose "
            "another sampler, such as Euler or DPM++ 2M."
        )
    refiner = getattr(p, "refiner_checkpoint_info", None)
    switch = getattr(p, "refiner_switch_at", None)
    elsewhere = getattr(p, "enable_hr", False) and shared.opts.hires_fix_refiner_pass == "second pass"
    if refiner is not None and not elsewhere and (switch or 0.0) < asked.ratio:
        raise AggregationError(
            f"aggregation_ratio: the refiner takes over at {switch or 0.0:g}, before merging ends at {asked.ratio:g}; "
            "let it take over later, or lower the ratio."
        )
    asked.for_steps(plan.steps)
