"""What is known of a generation before it starts: from the panel, the host, and the page as far as it tells."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from modules import sd_unet, shared

from ...errors import DitailError
from ...settings import AGGREGATION_ALONE, AUTOMATIC, Settings
from ..aggregation.asked import find_further
from ..cache import memory as cache
from ..host import hypertile
from ..host.beside.loaded import loaded_model
from ..host.checkpoints import check_file, check_pair
from ..host.installed import find_source, selected_or_loaded
from ..host.samplers import adds_noise
from ..source.models import is_in_memory
from .sentence import Situation

logger = logging.getLogger("ditail")


def read_facts(text: str) -> dict[str, Any]:
    """What the page tells of itself, as JSON; nothing of it is trusted to be there or to be of its type."""
    try:
        facts = json.loads(text or "{}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def situation_of(settings: Settings, facts: Mapping[str, Any], *, img2img: bool) -> Situation:
    """The situation of one tab.

    Args:
        settings: the panel's.
        facts: the page's: ``target`` (title of the selected checkpoint), ``picture``, ``prompt``, ``kept``, ``mask``
            (true or false), ``steps``, ``images`` (numbers), ``strength`` (0 to 1), ``sampler`` (a name).
        img2img: in which tab.

    Raises:
        CheckpointError: there is no checkpoint at all.
    """
    target = _target(facts)
    refusals = _of_options(img2img=img2img)
    source, further = target, list[Any]()
    alone = settings.aggregation == AGGREGATION_ALONE
    try:
        further = _further(settings, target)
        source = target if alone else find_source(settings.source_checkpoint, target)
        if source is not target and source.filename != target.filename and _is_loaded(target):
            check_pair(check_file(source), source, shared.sd_model, _vae(settings), needs_vae=False)
    except DitailError as error:
        refusals.append(str(error))
    sampler = _known(facts, "sampler", str)
    kept = _known(facts, "kept", bool) is True and len(cache.trajectories) > 0
    same = source.filename == target.filename
    loads = [] if _is_loaded(target) else [target]
    if not same and not kept and not is_in_memory(source):
        loads.append(source)
    loads += [one for one in further if not is_in_memory(one)]
    steps = _steps(facts, img2img=img2img)
    return Situation(
        settings=settings,
        img2img=img2img,
        target=target.name,
        source=settings.source_checkpoint if refusals and same and not _is_same(settings) else source.name,
        same=same and not refusals and not alone,
        picture=_known(facts, "picture", bool),
        steps=steps,
        sampler=sampler,
        adds_noise=None if sampler is None else adds_noise(sampler, steps or 20),
        images=_known(facts, "images", int),
        prompt=_known(facts, "prompt", bool),
        refusals=refusals,
        loads=[one.name for one in loads],
        kept=kept,
        raised=_known(facts, "raised", float),
        mask=_known(facts, "mask", bool),
    )


def _further(settings: Settings, target: Any) -> list[Any]:
    """The further checkpoints; what is wrong with them is known only beside the target."""
    asked = find_further(settings, shared.sd_model) if _is_loaded(target) else None
    return [] if asked is None else [one.info for one in asked.models]


def _target(facts: Mapping[str, Any]) -> Any:
    """The selected checkpoint; the page may have one selected that is not loaded yet."""
    return selected_or_loaded(_known(facts, "target", str), loaded_model())


def _is_loaded(info: Any) -> bool:
    loaded = loaded_model()
    return loaded is not None and loaded.sd_checkpoint_info.filename == info.filename


def _is_same(settings: Settings) -> bool:
    return settings.source_checkpoint in ("", Settings().source_checkpoint)


def _vae(settings: Settings) -> str | None:
    return None if settings.source_vae == AUTOMATIC else settings.source_vae


def _of_options(*, img2img: bool) -> list[str]:
    """What the host's options would have refused, whatever the panel says."""
    options = shared.opts
    merging = getattr(options, "token_merging_ratio", 0)
    if img2img:
        merging = getattr(options, "token_merging_ratio_img2img", 0) or merging
    said = []
    if merging:
        said.append("Token merging is on (Settings → Optimizations): set its ratio to 0, or Ditail will refuse.")
    if hypertile.is_on() and not hypertile.is_known():
        said.append("Hypertile U-Net is on: switch it off, or Ditail will refuse.")
    if getattr(options, "sd_unet", "None") not in ("None", "Automatic") and sd_unet.get_unet_option() is not None:
        said.append("SD Unet replaces the UNet: set it to None, or Ditail will refuse.")
    return said


def _steps(facts: Mapping[str, Any], *, img2img: bool) -> int | None:
    """The steps that will be made: in img2img those that the denoising strength leaves."""
    steps = _known(facts, "steps", int)
    strength = _known(facts, "strength", float)
    if steps is None or not img2img or strength is None or getattr(shared.opts, "img2img_fix_steps", False):
        return steps
    return min(int(min(strength, 0.999) * steps) + 1, steps)


def _known(facts: Mapping[str, Any], name: str, kind: type) -> Any:
    value = facts.get(name)
    if kind is float and type(value) is int:
        value = float(value)
    return value if type(value) is kind else None
