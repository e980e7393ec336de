"""What happens in a request that asks for Ditail, from the ``process`` callback on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modules import sd_models, sd_samplers, sd_unet, shared

from ..core import Window, find_sites
from ..errors import UnsupportedModelError
from ..settings import INVERSION_ONLY, MASK_REGION, Settings
from .checkpoint import check_file, check_pair, find_source, find_vae
from .conditions import inversion_prompts
from .generation import ContentGenerator
from .infotext import parameters, source_title
from .inversion import InversionTask, Inverter
from .levels import SamplerPlan, plan_sampler
from .mixing import SETTINGS as MIX_SETTINGS
from .mixing import Mix, find_mix, why_no_mix
from .model import schedule_of, unet_of
from .picture import PreparedPicture, generated_frame, prepare_img2img, prepare_txt2img
from .region import mask_hash, region_of
from .request import Request
from .run_request import run_tasks
from .sampling import Sampling
from .source import Source
from .timing import of_this_device

_BATCHES = "ditail_batches"
_INVERT_ONLY = "ditail_invert_only"


def begin(p: Any, request: Request, *, img2img: bool) -> Sampling:
    """Let the source do its part and prepare the target's sampling; the target is loaded before and after.

    The source inverts the request's pictures. In txt2img without a content picture it generates them.

    Raises:
        InversionStopped: Interrupt or Skip was pressed.
        DitailError: the request cannot be fulfilled.
    """
    settings = request.settings
    refuse_unsupported(p)
    generated = not img2img and request.picture is None
    source = _source(settings, needs_vae=not generated or settings.show_content)
    sd_models.apply_alpha_schedule_override(p.sd_model, p)
    mix = find_mix(settings, p.sd_model)
    _say_what_has_no_effect(p, settings, mix, generated=generated)
    if generated:
        return _generate(p, request, source, mix)
    prepared = prepare_txt2img(p, request.picture) if request.picture is not None else prepare_img2img(p)
    plan = plan_sampler(p, prepared.sampler, schedule_of(p.sd_model), img2img=img2img)
    region = region_of(p, request, prepared.frame)
    tasks, sources = _tasks(p, settings, prepared.pictures)
    times = of_this_device()
    trajectories = Inverter(p, settings, source, plan, times).trajectories(tasks)
    p.extra_generation_params.update(_infotext(p, request, source, plan, mix))
    return Sampling(p, settings, plan, trajectories, sources, times, region, mix=mix)


def _generate(p: Any, request: Request, source: Source, mix: Mix | None) -> Sampling:
    settings = request.settings
    sampler = sd_samplers.create_sampler(p.sampler_name, p.sd_model)
    plan = plan_sampler(p, sampler, schedule_of(p.sd_model), img2img=False)
    region = region_of(p, request, generated_frame(p))
    times = of_this_device()
    generator = ContentGenerator(p, source, times, decode=settings.show_content)
    tasks = run_tasks(p, settings)
    runs = generator.runs(tasks)
    p.extra_generation_params.update(_infotext(p, request, source, plan, mix, generated=True))
    contents = generator.pictures(tasks, runs)
    return Sampling(p, settings, plan, runs, range(len(runs)), times, region, contents, mix)


def refuse_unsupported(p: Any) -> None:
    """Refuse what would silently change or bypass what is injected.

    Raises:
        UnsupportedModelError: the target is of a kind, or an option is on, that Ditail cannot work with.
    """
    find_sites(unet_of(shared.sd_model))
    if p.get_token_merging_ratio():
        raise UnsupportedModelError("Ditail does not work with token merging; set the token merging ratio to 0.")
    if getattr(shared.opts, "hypertile_enable_unet", False):
        raise UnsupportedModelError("Ditail does not work with Hypertile; switch Hypertile U-Net off.")
    if sd_unet.get_unet_option() is not None:
        raise UnsupportedModelError("Ditail does not work with a replaced UNet (TensorRT); set SD Unet to None.")


def has_no_first_pass(p: Any) -> bool:
    """Whether the host only upscales a picture that is there already."""
    return bool(getattr(p, "enable_hr", False)) and getattr(p, "firstpass_image", None) is not None


def say_no_part(p: Any) -> None:
    """Say below the picture and in its infotext that Ditail was asked for where there is nothing for it to do."""
    p.comment("Ditail has no part in upscaling a finished picture.")
    p.extra_generation_params["Ditail range"] = "none, the picture is only upscaled"


def invert_only(p: Any) -> Any:
    """Let a request end when its sources are inverted, without a picture; gives the request back."""
    setattr(p, _INVERT_ONLY, True)
    return p


def wants_picture(p: Any) -> bool:
    """Whether a request goes on after the inversion, as all do but those of :func:`invert_only`."""
    return not getattr(p, _INVERT_ONLY, False)


def make_nothing(p: Any) -> None:
    """Let the host finish without making a picture: it forgets a Skip pressed before its own loop."""
    setattr(p, _BATCHES, p.n_iter)
    p.n_iter = 0


def make_again(p: Any) -> None:
    """Undo :func:`make_nothing`, for scripts that use the same request again."""
    p.n_iter = p.__dict__.pop(_BATCHES, p.n_iter)


def _source(settings: Settings, *, needs_vae: bool) -> Source:
    target = shared.sd_model.sd_checkpoint_info
    info, vae = find_source(settings.source_checkpoint, target), find_vae(settings.source_vae)
    if info.filename != target.filename:
        check_pair(check_file(info), info, shared.sd_model, vae, needs_vae=needs_vae)
    return Source(info, vae)


def _tasks(p: Any, settings: Settings, pictures: Sequence[PreparedPicture]) -> tuple[list[InversionTask], list[int]]:
    """The distinct inversions of a request, and for each of its images the index of its own."""
    batch = min(p.batch_size, len(pictures)) if len(pictures) > 1 else p.batch_size
    tasks: list[InversionTask] = []
    sources: list[int] = []
    for index, (prompt, negative) in enumerate(zip(p.all_prompts, p.all_negative_prompts, strict=True)):
        picture = pictures[index % batch] if len(pictures) > 1 else pictures[0]
        prompts = inversion_prompts(settings, prompt, negative)
        same = (at for at, task in enumerate(tasks) if task.picture is picture and task.prompts == prompts)
        known = next(same, None)
        if known is None:
            known = len(tasks)
            tasks.append(InversionTask(picture, prompts))
        sources.append(known)
    return tasks, sources


def _infotext(
    p: Any, request: Request, source: Source, plan: SamplerPlan, mix: Mix | None, *, generated: bool = False
) -> dict[str, object]:
    settings = request.settings
    same = source.info.filename == shared.sd_model.sd_checkpoint_info.filename
    notes = []
    if getattr(p, "enable_hr", False):
        notes.append("first pass only")
    if getattr(p, "refiner_checkpoint_info", None) is not None:
        notes.append("until the refiner")
    return parameters(
        settings,
        without=INVERSION_ONLY if generated else (),
        content="generated by the source" if generated else None,
        source_checkpoint=None if same else source_title(source.info),
        mix_checkpoint=None if mix is None else source_title(mix.info),
        start="not preserved: the sampler adds noise" if plan.stochastic and not generated else None,
        range=", ".join(notes) or None,
        injection=_no_injection(settings, plan),
        mask=_mask_note(p, request),
    )


def _say_what_has_no_effect(p: Any, settings: Settings, mix: Mix | None, *, generated: bool) -> None:
    """Name the settings that were changed and mean nothing here: below the picture, and in its infotext."""
    idle = [*INVERSION_ONLY, *(() if settings.show_content else ("source_vae",))] if generated else ["show_content"]
    reasons = {"the source generates the content" if generated else "the content is a given picture": idle}
    if mix is None:
        reasons[why_no_mix(settings)] = list(MIX_SETTINGS)
    named = []
    for why, names in reasons.items():
        changed = [name for name in names if name in settings.changed()]
        if changed:
            p.comment(f"Ditail: {', '.join(changed)} without effect, because {why}.")
        named += changed
    if named:
        p.extra_generation_params["Ditail without effect"] = " and ".join(named)


def _no_injection(settings: Settings, plan: SamplerPlan) -> str | None:
    """What to say when a window that was asked for comes to no step at all."""
    windows = {
        "feature": (settings.feature_start, settings.feature_ratio),
        "attention": (settings.attention_start, settings.attention_ratio),
    }
    asked = {name: share for name, share in windows.items() if share[1] > 0}
    empty = [name for name, (start, end) in asked.items() if not Window.from_ratio(end, plan.steps, start)]
    if not empty:
        return None
    if len(empty) == len(asked):
        return "none, no step lies in a window"
    return f"no {empty[0]}, no step lies in its window"


def _mask_note(p: Any, request: Request) -> str | None:
    """What names the region mask, or says that it has no part."""
    if request.mask is None:
        return None
    if request.settings.region == MASK_REGION:
        return mask_hash(request.mask)
    p.comment(f"Ditail's region mask was not used; for that, choose the region '{MASK_REGION}'.")
    return "not used"
