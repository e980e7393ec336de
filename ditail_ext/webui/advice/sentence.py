"""A situation in words: what Ditail will do, what matters about it, and which controls have no effect meanwhile."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...core import Window
from ...setting import Group, Section
from ...settings import (
    AGGREGATE,
    AGGREGATION_ALONE,
    CONTENT_GENERATED,
    EVERYWHERE,
    INPAINT_REGION,
    INVERSION_ONLY,
    NO_MIX,
    OUTSIDE_REGION,
    TABLE,
    Settings,
)

OF_A_MASK = (INPAINT_REGION, OUTSIDE_REGION)

SHORT = 36
"""Letters of a checkpoint's name in a sentence; the whole one is its tooltip."""


@dataclass(frozen=True)
class Situation:
    """What is known of a generation before it starts. What is ``None`` is not known.

    Attributes:
        settings: the panel's.
        img2img: in which tab.
        target: name of the checkpoint that is selected.
        source: name of the one that inverts or generates; the same name where it is the target.
        same: whether source and target are one checkpoint.
        picture: whether there is a picture to invert.
        steps: how many the sampler makes of it.
        sampler: its name.
        adds_noise: whether it adds noise on the way.
        images: how many pictures are to be made.
        prompt: whether the prompt says anything.
        refusals: sentences about what would be refused.
        loads: names of the checkpoints that have to be loaded.
        kept: whether the inversion is kept from before.
        raised: what the denoising strength was before it was raised to 1.
        mask: whether the open tab of img2img has an inpaint mask.
    """

    settings: Settings
    img2img: bool
    target: str
    source: str
    same: bool
    picture: bool | None = None
    steps: int | None = None
    sampler: str | None = None
    adds_noise: bool | None = None
    images: int | None = None
    prompt: bool | None = None
    refusals: Sequence[str] = ()
    loads: Sequence[str] = ()
    kept: bool = False
    raised: float | None = None
    mask: bool | None = None

    @property
    def alone(self) -> bool:
        """Whether further checkpoints are merged and there is no source."""
        return self.settings.aggregation == AGGREGATION_ALONE

    @property
    def generated(self) -> bool:
        """Whether the source is to generate the content, as far as is known."""
        if self.img2img or self.alone:
            return False
        return self.settings.content == CONTENT_GENERATED or self.picture is False


@dataclass(frozen=True)
class Said:
    """What the panel shows.

    Attributes:
        doing: the sentence, as HTML.
        warnings: what matters, each as HTML; the first prevents the picture if ``refused``.
        notes: what it costs.
        badge: source and target, as HTML.
        inert: names of the controls that have no effect.
        changed: names of those that are not at their defaults.
        out_of_place: choices of the region that mean nothing in the open tab.
        refused: whether the generation would be refused.
    """

    doing: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    badge: str
    inert: frozenset[str] = field(default_factory=frozenset)
    changed: frozenset[str] = field(default_factory=frozenset)
    out_of_place: tuple[str, ...] = ()
    refused: bool = False


def say(situation: Situation) -> Said:
    """Put a situation into words."""
    return Said(
        _doing(situation),
        (*(html.escape(text) for text in situation.refusals), *_warnings(situation)),
        tuple(_notes(situation)),
        _badge(situation),
        inert(situation),
        frozenset(situation.settings.changed()) - {"enabled"},
        tuple(name for name in OF_A_MASK if situation.mask is False and name != situation.settings.region),
        bool(situation.refusals),
    )


def _badge(situation: Situation) -> str:
    if not situation.alone:
        return f"{name(situation.source)} → {name(situation.target)}"
    others = [getattr(situation.settings, argument) for argument in situation.settings.aggregated]
    return " + ".join(name(one) for one in (situation.target, *others))


def name(checkpoint: str) -> str:
    """A checkpoint's name, short enough for a sentence, the whole one as its tooltip: HTML."""
    whole = checkpoint.replace("\\", "/").rsplit("/", 1)[-1]
    for ending in (".safetensors", ".ckpt"):
        whole = whole.removesuffix(ending)
    middle = SHORT // 2
    short = whole if len(whole) <= SHORT else f"{whole[:middle]}…{whole[1 - middle :]}"
    return f'<b title="{html.escape(checkpoint, quote=True)}">{html.escape(short)}</b>'


def _doing(situation: Situation) -> str:
    drawn = f"Drawn by {name(situation.target)}, without a source"
    said = drawn if situation.alone else _with_a_source(situation)
    others = [getattr(situation.settings, argument) for argument in situation.settings.aggregated]
    if not others:
        return said
    until = f"{situation.settings.aggregation_ratio:.0%} of the steps"
    return f"{said}, merged with {' and '.join(name(other) for other in others)} in the first {until}"


def _with_a_source(situation: Situation) -> str:
    source, target = name(situation.source), name(situation.target)
    steps = "" if situation.steps is None else f" ({situation.steps} step{'s' * (situation.steps != 1)})"
    if situation.generated:
        return f"{source} generates the content{steps} → redrawn by {target}"
    if situation.picture is False:
        return f"No picture yet: give one. It will be inverted by {source} → redrawn by {target}"
    what = "This picture" if situation.picture else "The picture"
    kept = ", kept from before" if situation.kept else ""
    inner = steps[:-1] + kept + ")" if steps else kept.replace(", ", " (") + ")" * bool(kept)
    return f"{what} → inverted by {source}{inner} → redrawn by {target}"


def _warnings(situation: Situation) -> list[str]:
    settings, said = situation.settings, list[str]()
    if situation.alone:
        return said if settings.aggregated else ["Nothing is aggregated: name a further checkpoint."]
    if situation.same and not settings.inversion_prompt.strip():
        what = "that is to draw the content" if situation.generated else "that the picture looks like"
        said.append(
            "Source and target are the same checkpoint: that is for editing by prompt. For another style, choose as "
            f"the source the checkpoint {what}."
        )
    if situation.prompt is False:
        said.append("The prompt is empty: say what the picture shows.")
    if situation.adds_noise and not situation.generated:
        sampler = html.escape(situation.sampler or "This sampler")
        said.append(f"{sampler} adds noise on the way, so the picture is kept less exactly; DDIM and Euler do not.")
    if situation.adds_noise is False and not situation.generated and (situation.images or 1) > 1:
        said.append(
            f"All {situation.images} pictures will be the same: {html.escape(situation.sampler or 'the sampler')} "
            "starts at the inverted picture, and the seed has no effect."
        )
    if situation.steps is not None and not any(_windows(settings, situation.steps)):
        said.append("Nothing will be injected: no step lies in a window. Raise the ratios, the steps or the strength.")
    if situation.mask is False and settings.region in OF_A_MASK:
        said.append("There is no inpaint mask: paint one in the tab Inpaint, or choose another region.")
    return said


def _windows(settings: Settings, steps: int) -> list[Window]:
    """The steps in which the feature and the attention are injected; empty ones count as false."""
    ends = ((settings.feature_ratio, settings.feature_start), (settings.attention_ratio, settings.attention_start))
    return [Window.from_ratio(end, steps, start) for end, start in ends]


def _notes(situation: Situation) -> list[str]:
    said = []
    if situation.loads:
        said.append(f"To be loaded first: {', '.join(name(one) for one in situation.loads)}.")
    if situation.raised is not None:
        said.append(
            f"Denoising strength is 1 for the most style (it was {situation.raised:g}); lower it to stay nearer to "
            "the picture."
        )
    return said


def inert(situation: Situation) -> frozenset[str]:
    """The controls that have no effect as things stand."""
    settings = situation.settings
    names: set[str] = set()
    if situation.generated:
        names |= {*INVERSION_ONLY} | (set() if settings.show_content else {"source_vae"})
    elif situation.picture:
        names.add("show_content")
    if settings.region == EVERYWHERE:
        names.add("region_blur")
    if settings.mix_checkpoint == NO_MIX:
        names.add("mix_weight")
    names |= _inert_of_aggregation(situation)
    for kind in ("feature", "attention"):
        if getattr(settings, f"{kind}_ratio") == 0 or getattr(settings, f"{kind}_weight") == 0:
            names |= {f"{kind}_start", f"{kind}_weight"} if getattr(settings, f"{kind}_ratio") == 0 else set()
            names |= {f"{kind}_start", f"{kind}_ratio"} if getattr(settings, f"{kind}_weight") == 0 else set()
    return frozenset(names & {key for key, row in TABLE.items() if row.group is not Group.SWITCH})


def _inert_of_aggregation(situation: Situation) -> set[str]:
    named = situation.settings.aggregated
    unnamed = [argument for argument in AGGREGATE if argument not in named]
    inert_names = {key for key in TABLE if unnamed and key.startswith(tuple(unnamed)) and key not in AGGREGATE}
    if not named:
        inert_names |= {"aggregation_ratio", "aggregation_start"}
    if situation.alone:
        inert_names |= {key for key, row in TABLE.items() if row.group.section is not Section.AGGREGATION}
    return inert_names
