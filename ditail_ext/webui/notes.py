"""What a request says of itself: its pictures' parameters, and the comments below them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..core import Window
from ..setting import Group, Section
from ..settings import AGGREGATE, CONTENT_AUTOMATIC, INVERSION_ONLY, MASK_REGION, TABLE, Settings
from .request.pictures import LABELS, MASK, PICTURE, mask_hash

if TYPE_CHECKING:
    from .aggregation.asked import Asked
    from .host.samplers import SamplerPlan
    from .request.arguments import Request
    from .source.at_work import Source
    from .target.mix import Mix


def parameters_of(
    p: Any,
    request: Request,
    source: Source,
    plan: SamplerPlan,
    mix: Mix | None,
    asked: Asked | None = None,
    *,
    generated: bool = False,
) -> dict[str, object]:
    """What the request's pictures say of how they were made.

    Args:
        p: the host's request.
        request: checked.
        source: who inverts or generates.
        plan: of the target's sampler.
        mix: what the target is mixed with.
        asked: the further checkpoints.
        generated: the source generates the content.
    """
    settings = request.settings
    others = mix or asked or settings.inversion_prompt or settings.inversion_negative_prompt or not source.is_target
    others = others or any((*p.all_prompts, *p.all_negative_prompts))  # the source's features are the empty prompt's
    same = "none that changes anything, source and target generate one picture" if generated and not others else None
    return parameters(
        settings,
        without={*(INVERSION_ONLY if generated else ()), *_not_aggregated(asked)},
        content=_content(p, request, generated=generated),
        source_checkpoint=None if source.is_target else source_title(source.info),
        mix_checkpoint=None if mix is None else source_title(mix.info),
        start="not preserved: the sampler adds noise" if plan.stochastic and not generated else None,
        range=_range(p),
        injection=_say_injection(p, _no_injection(settings, plan) or same),
        mask=_mask_note(p, request),
        **_aggregated(asked),
    )


def parameters_of_aggregation(p: Any, request: Request, asked: Asked) -> dict[str, object]:
    """What pictures say that further checkpoints had a part in, and no source."""
    without = {*_not_aggregated(asked), *_of_injection()}
    return parameters(request.settings, without=without, range=_range(p), **_aggregated(asked))


def say_what_aggregation_leaves_out(p: Any, request: Request) -> None:
    """Name what was given for a source, where there is none."""
    changed = [name for name in request.settings.changed() if name in _of_injection()]
    labels = [TABLE[name].label for name in changed]
    labels += [LABELS[name] for name, given in ((PICTURE, request.picture), (MASK, request.mask)) if given is not None]
    if labels:
        p.comment(f"Ditail: {', '.join(labels)}: without effect, because the aggregation stands alone.")
        p.extra_generation_params["Ditail without effect"] = " and ".join([*changed, *labels[len(changed) :]])


def _of_injection() -> list[str]:
    return [
        name
        for name, setting in TABLE.items()
        if setting.group.section is not Section.AGGREGATION and name != "enabled"
    ]


def _range(p: Any) -> str | None:
    notes = []
    if getattr(p, "enable_hr", False):
        notes.append("first pass only")
    if getattr(p, "refiner_checkpoint_info", None) is not None:
        notes.append("until the refiner")
    return ", ".join(notes) or None


def _aggregated(asked: Asked | None) -> dict[str, object]:
    if asked is None:
        return {}
    titles = {one.argument: source_title(one.info) for one in asked.models}
    weights = {f"{one.argument}_weight": one.weight for one in asked.models}
    return {**titles, **weights, "aggregation_ratio": asked.ratio, "aggregation_start": asked.start}


def _not_aggregated(asked: Asked | None) -> list[str]:
    """Settings of further checkpoints that are not named; of all of it, if none is."""
    if asked is None:
        return [name for name, setting in TABLE.items() if setting.group.section is Section.AGGREGATION]
    named = {one.argument for one in asked.models}
    unnamed = [name for name in AGGREGATE if name not in named]
    return [name for name in TABLE if name.startswith(tuple(unnamed))] if unnamed else []


def say_what_has_no_effect(p: Any, request: Request, *, no_mix: str | None, generated: bool) -> None:
    """Name the settings that were changed and mean nothing here: below the picture, and in its infotext.

    Args:
        p: the host's request.
        request: checked.
        no_mix: why the target is not mixed, as the end of a sentence; ``None`` where it is.
        generated: the source generates the content.
    """
    settings = request.settings
    idle = [*INVERSION_ONLY, *(() if settings.show_content else ("source_vae",))] if generated else ["show_content"]
    if generated and request.picture is not None:
        p.comment("Ditail: Content picture: not used, because the content is generated by the source.")
    reasons = {"the source generates the content" if generated else "the content is a given picture": idle}
    reasons["no further checkpoint is named for it"] = _without_a_checkpoint(settings)
    if no_mix is not None:
        reasons[no_mix] = [name for name, setting in TABLE.items() if setting.group is Group.MIX]
    named = []
    for why, names in reasons.items():
        changed = [name for name in names if name in settings.changed()]
        if changed:
            p.comment(f"Ditail: {', '.join(TABLE[name].label for name in changed)}: without effect, because {why}.")
        named += changed
    if named:
        p.extra_generation_params["Ditail without effect"] = " and ".join(named)


def _without_a_checkpoint(settings: Settings) -> list[str]:
    unnamed = tuple(name for name in AGGREGATE if name not in settings.aggregated)
    names = [name for name in TABLE if unnamed and name.startswith(unnamed) and name not in AGGREGATE]
    return [*names, "aggregation_ratio", "aggregation_start"] if len(unnamed) == len(AGGREGATE) else names


def _no_injection(settings: Settings, plan: SamplerPlan) -> str | None:
    """What to say when a window that was asked for comes to no step at all."""
    windows = {
        "feature": (settings.feature_start, settings.feature_ratio),
        "attention": (settings.attention_start, settings.attention_ratio),
    }
    weights = {"feature": settings.feature_weight, "attention": settings.attention_weight}
    asked = {name: share for name, share in windows.items() if share[1] > 0 and weights[name] > 0}
    if not asked:
        return "none, both ratios or weights are 0"
    empty = [name for name, (start, end) in asked.items() if not Window.from_ratio(end, plan.steps, start)]
    if not empty:
        return None
    if len(empty) == len(asked):
        return "none, no step lies in a window"
    return f"no {empty[0]}, no step lies in its window"


def _say_injection(p: Any, said: str | None) -> str | None:
    if said is not None:
        p.comment(f"Ditail: injection: {said}.")
    return said


def _content(p: Any, request: Request, *, generated: bool) -> str | None:
    """What the content is, in txt2img; a picture by a hash, for pasted back it is not there."""
    if generated:
        return "generated by the source"
    if request.picture is None or getattr(p, "init_images", None):
        return CONTENT_AUTOMATIC
    return f"picture {mask_hash(request.picture)}"


def say_of_the_start(p: Any, plan: SamplerPlan) -> None:
    """Say below the picture what the sampler makes of the inverted start, and of the seed."""
    if plan.stochastic:
        p.comment(f"Ditail: {p.sampler_name} adds noise on the way, so the picture's start is not preserved.")
    elif len(p.all_prompts) > len(set(zip(p.all_prompts, p.all_negative_prompts, strict=True))):
        p.comment(
            f"Ditail: the seed has no effect with {p.sampler_name}, which starts at the inverted picture; images of a "
            "picture and prompt are equal."
        )


def _mask_note(p: Any, request: Request) -> str | None:
    """What names the region mask, or says that it has no part."""
    if request.mask is None:
        return None
    if request.settings.region == MASK_REGION:
        return mask_hash(request.mask)
    p.comment(f"Ditail's region mask was not used; for that, choose the region '{MASK_REGION}'.")
    return "not used"


def say_no_part(p: Any) -> None:
    """Say below the picture and in its infotext that Ditail was asked for where there is nothing for it to do."""
    p.comment("Ditail has no part in upscaling a finished picture.")
    p.extra_generation_params["Ditail range"] = "none, the picture is only upscaled"


def parameters(settings: Settings, *, without: Collection[str] = (), **facts: object) -> dict[str, object]:
    """What an enabled request adds to ``p.extra_generation_params``; nothing for a disabled one.

    Numbers are always written, so that pictures can be made again after a default has changed; texts and choices,
    and numbers whose default does nothing, where they differ from the default. Numbers among the facts do something.

    Args:
        settings: the request's.
        without: settings that mean nothing in this request; they are not written.
        facts: by a setting's name, what is to be shown in place of its value (``source_checkpoint="name [hash]"``);
            by any other name, what else is worth knowing (``start="..."`` becomes "Ditail start"). None is left out.
    """
    if not settings.enabled:
        return {}
    shown = {name: value for name, value in facts.items() if value is not None}
    written = {}
    for name, setting in TABLE.items():
        if name in without:
            continue
        value = shown.pop(name, getattr(settings, name))
        number = setting.kind is float and (not setting.neutral or name in facts)
        always = number or name in ("enabled", "source_checkpoint")
        if always or value != setting.default:
            written[setting.infotext] = _protect(value)
    written |= {f"Ditail {name.replace('_', ' ')}": _protect(value) for name, value in shown.items()}
    return {**written, "Ditail version": __version__}


def without_ours(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters without Ditail's: scripts and the Batch tab use a request again, and its notes may not hold then."""
    return {key: value for key, value in parameters.items() if key != "Ditail" and not key.startswith("Ditail ")}


def source_title(info: Any) -> str:
    """A checkpoint as the infotext names it: file name and hash."""
    shorthash = getattr(info, "shorthash", None) or info.calculate_shorthash()
    return f"{info.name} [{shorthash}]" if shorthash else str(info.name)


def _protect(value: object) -> object:
    """The host quotes some texts and strips quotes and blanks off all: quote what it would damage."""
    damaged = isinstance(value, str) and (value.startswith('"') or value != value.strip())
    if damaged and not any(mark in str(value) for mark in ",:\n"):
        return json.dumps(value, ensure_ascii=False)
    return value
