"""What happens in a request that asks for Ditail, where the host is about to prepare it."""

from __future__ import annotations

from typing import Any

from modules import processing, sd_samplers, sd_unet, shared

from ..core import find_sites
from ..errors import SettingsError, UnsupportedModelError
from ..settings import AGGREGATION_ALONE, CONTENT_GENERATED, CONTENT_PICTURE, Settings
from . import notes
from .aggregation.asked import Asked, find_further, refuse_what_cannot_merge
from .aggregation.merged import AggregatedBatches
from .host import foreign, hypertile, kinds, other_ditail
from .host.beside.loaded import loaded_model
from .host.checkpoints import check_file, check_pair
from .host.installed import find_source, find_vae, selected
from .host.model import schedule_of, unet_of
from .host.preparation import Preparation, generated_frame, prepare_img2img, prepare_txt2img
from .host.samplers import SamplerPlan, plan_sampler
from .request.arguments import Request
from .source import models
from .source.at_work import Source
from .source.generator import ContentGenerator, GeneratedSources
from .source.inverter import InvertedSources, Inverter
from .target import features
from .target.injected import InjectedBatches, TargetPart
from .target.mix import Mix, find_mix, why_no_mix
from .target.region_mask import region_of
from .target.sampling import Batches, TargetSampling, refuse_own_sampling
from .target.surroundings import refuse_unknown_attention
from .timing import TimeSplit, of_this_device

_UNDONE = "ditail_undone"
"""Attribute of the host's request: what :func:`make_nothing` changed of it."""


def give_way() -> None:
    """Leave a GPU's memory to a request that has nothing to do with Ditail."""
    features.make_room()


def settle_models(p: Any) -> None:
    """Before the host loads what a request asks for: make a source that waits in memory the target, if it is that.

    Also gives memory back that has become short. To be called from ``before_process``, where the request's own
    checkpoint is not loaded yet.
    """
    models.trim()
    loaded = loaded_model()
    if loaded is not None:
        foreign.remember_classes(loaded)  # the attention optimisation may be another since it was loaded
    wanted = selected(p.override_settings.get("sd_model_checkpoint"))
    if wanted is not None:
        models.make_target(wanted)


def begin(p: Any, request: Request) -> TargetSampling:
    """Let the source do its part and prepare the target's sampling, where ``p.init`` is about to run.

    The source inverts the request's pictures. In txt2img without a content picture it generates them.

    Raises:
        InversionStopped: Interrupt or Skip was pressed.
        DitailError: the request cannot be fulfilled.
    """
    settings = request.settings
    refuse_own_sampling(p)
    refuse_unsupported(p)
    asked = find_further(settings, p.sd_model)
    if settings.aggregation == AGGREGATION_ALONE:
        return _aggregate(p, request, asked)
    generated = not _is_img2img(p) and _is_generated(request)
    source = _source(settings, needs_vae=not generated or settings.show_content)
    # The WebUI's has its effect here and now; another host has the schedule in force after it has made the sampler.
    schedule = kinds.of(p.sd_model).schedule_of(p, p.sd_model)
    mix = find_mix(settings, p.sd_model)
    no_mix = None if mix is not None else why_no_mix(settings)
    notes.say_what_has_no_effect(p, request, no_mix=no_mix, generated=generated)
    prepared = None if generated or request.picture is not None else prepare_img2img(p)
    with schedule:
        if generated:
            return _generate(p, request, source, mix, asked)
        return _invert(p, request, source, mix, asked, prepared or prepare_txt2img(p, request.picture))


def _invert(
    p: Any, request: Request, source: Source, mix: Mix | None, asked: Asked | None, prepared: Preparation
) -> TargetSampling:
    settings, img2img = request.settings, _is_img2img(p)
    refuse_tiles(p, prepared.sampler)
    plan = _planned(p, prepared.sampler, asked, img2img=img2img)
    region = region_of(p, request, prepared.frame)
    times = of_this_device()
    inverter = Inverter(p, settings, source, plan, times)
    sources = InvertedSources(p, inverter, settings, prepared.pictures)
    p.extra_generation_params.update(notes.parameters_of(p, request, source, plan, mix, asked))
    notes.say_of_the_start(p, plan)
    injected = InjectedBatches(TargetPart(settings, plan, sources, times, region, mix))
    return TargetSampling(_beside(injected, asked, plan, times), times)


def _planned(p: Any, sampler: Any, asked: Asked | None, *, img2img: bool) -> SamplerPlan:
    plan = plan_sampler(p, sampler, schedule_of(p.sd_model), img2img=img2img)
    if asked is not None:
        refuse_what_cannot_merge(p, asked, plan)
    return plan


def _beside(inner: Batches, asked: Asked | None, plan: SamplerPlan, times: TimeSplit) -> Batches:
    """What is done to each batch, with the further checkpoints around it, if there are any."""
    return inner if asked is None else AggregatedBatches(asked, plan, times, inner)


def _aggregate(p: Any, request: Request, asked: Asked | None) -> TargetSampling:
    """An ordinary picture, but for further checkpoints in its first steps: there is no source."""
    if asked is None:
        raise SettingsError(
            "aggregation",
            f"aggregation is '{AGGREGATION_ALONE}', but there is no further checkpoint; name one in aggregate_1.",
        )
    sampler = sd_samplers.create_sampler(p.sampler_name, p.sd_model)
    refuse_tiles(p, sampler)
    with kinds.of(p.sd_model).schedule_of(p, p.sd_model):
        plan = _planned(p, sampler, asked, img2img=_is_img2img(p))
    notes.say_what_aggregation_leaves_out(p, request)
    p.extra_generation_params.update(notes.parameters_of_aggregation(p, request, asked))
    times = of_this_device()
    return TargetSampling(AggregatedBatches(asked, plan, times), times)


def _is_img2img(p: Any) -> bool:
    return isinstance(p, processing.StableDiffusionProcessingImg2Img)


def _is_generated(request: Request) -> bool:
    """Whether txt2img's content is the source's to generate.

    Raises:
        SettingsError: it is to be a picture, and there is none.
    """
    wanted = request.settings.content
    if wanted == CONTENT_PICTURE and request.picture is None:
        raise SettingsError(
            "content", f"content is '{wanted}', but there is no content picture; give it, or choose another."
        )
    return wanted == CONTENT_GENERATED or request.picture is None


def _generate(p: Any, request: Request, source: Source, mix: Mix | None, asked: Asked | None) -> TargetSampling:
    settings = request.settings
    sampler = sd_samplers.create_sampler(p.sampler_name, p.sd_model)
    refuse_tiles(p, sampler)
    plan = _planned(p, sampler, asked, img2img=False)
    region = region_of(p, request, generated_frame(p))
    times = of_this_device()
    sources = GeneratedSources(p, ContentGenerator(p, source, times, decode=settings.show_content), settings)
    p.extra_generation_params.update(notes.parameters_of(p, request, source, plan, mix, asked, generated=True))
    injected = InjectedBatches(TargetPart(settings, plan, sources, times, region, mix))
    return TargetSampling(_beside(injected, asked, plan, times), times, sources.contents)


def refuse_tiles(p: Any, sampler: Any) -> None:
    """Refuse a picture that another extension cuts into tiles: what is injected is the whole picture's.

    Raises:
        UnsupportedModelError: one does; it said so when the host made the sampler.
    """
    other = foreign.tiles(p.sd_model, sampler)
    if other is not None:
        raise UnsupportedModelError(
            f"'{other}' cuts the picture into tiles, and Ditail injects into whole pictures; switch one of them off."
        )


def refuse_other_ditail(p: Any) -> None:
    """Refuse a request that is to be the authors' Ditail's, too; to be called before any extension's ``process``.

    Raises:
        UnsupportedModelError: it is.
    """
    other = other_ditail.is_on(p)
    if other is not None:
        raise UnsupportedModelError(
            f"'{other}' (DiffusionCocktail, the authors' own Ditail) is on, too, and both inject into the same "
            "layers; switch one of them off."
        )


def refuse_unsupported(p: Any) -> None:
    """Refuse what would silently change or bypass what is injected.

    Raises:
        UnsupportedModelError: the target is of a kind, or an option is on, that Ditail cannot work with.
    """
    kinds.require_known(shared.sd_model)
    find_sites(unet_of(shared.sd_model))
    if p.get_token_merging_ratio():
        raise UnsupportedModelError("Ditail does not work with token merging; set the token merging ratio to 0.")
    if hypertile.is_on() and not hypertile.is_known():
        raise UnsupportedModelError("Ditail does not know this WebUI's Hypertile; switch Hypertile U-Net off.")
    refuse_unknown_attention(unet_of(p.sd_model))
    if sd_unet.get_unet_option() is not None:
        raise UnsupportedModelError("Ditail does not work with a replaced UNet (TensorRT); set SD Unet to None.")


def has_no_first_pass(p: Any) -> bool:
    """Whether the host only upscales a picture that is there already."""
    return bool(getattr(p, "enable_hr", False)) and getattr(p, "firstpass_image", None) is not None


def make_nothing(p: Any) -> None:
    """Let the host finish without making a picture: it forgets a Skip pressed before its own loop.

    Where its option lets it make a grid of less than two pictures, it would divide by their number.
    """
    setattr(p, _UNDONE, (p.n_iter, p.do_not_save_grid))
    p.n_iter, p.do_not_save_grid = 0, True
    p.comment("Ditail was stopped before the picture was begun.")


def make_again(p: Any) -> None:
    """Undo :func:`make_nothing`, for scripts that use the same request again."""
    p.n_iter, p.do_not_save_grid = p.__dict__.pop(_UNDONE, (p.n_iter, p.do_not_save_grid))


def _source(settings: Settings, *, needs_vae: bool) -> Source:
    target = shared.sd_model.sd_checkpoint_info
    source = Source(find_source(settings.source_checkpoint, target), find_vae(settings.source_vae))
    if not source.is_target:
        check_pair(check_file(source.info), source.info, shared.sd_model, source.vae, needs_vae=needs_vae)
    return source
