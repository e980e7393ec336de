"""One cell of a grid as a request of its own, and the key over everything that its picture depends on."""

from __future__ import annotations

import copy
import dataclasses
import enum
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from modules import shared
from PIL import Image

from ...settings import SAME_AS_TARGET, Settings
from ..aggregation.asked import further_files
from ..cache import identity
from ..cache.keys import key_of
from ..host import networks
from ..host.other_vae import resolved_vae
from ..host.tags import strip_tags
from ..request.arguments import OVERRIDES, Request
from ..target.mix import mix_file
from .styles import Style

CHECKPOINT = "sd_model_checkpoint"
"""The host's option that selects the checkpoint."""

_WITHOUT_EFFECT = {
    *("sd_model", "outpath_samples", "outpath_grids", "do_not_save_samples", "do_not_save_grid", "batch_size"),
    *("n_iter", "sampler_index", "force_task_id", "override_settings", "extra_generation_params", "styles"),
    *("do_not_reload_embeddings", "override_settings_restore_afterwards", "prompt_for_display"),
}
"""Fields of a request that do not show in the picture, or that are told apart in another way."""

_CATEGORIES = ("sd", "postprocessing")
"""Of the host's options, those that may show in a picture, beside all that have an infotext."""

_DEPTH = 8


def cell_request(p: Any, source: Style, target: Style, told: str | None) -> Any:
    """A copy of the grid's request for one cell.

    Args:
        p: the grid's, of one picture.
        source: gives the content.
        target: gives the style.
        told: what :func:`told_to_sources` says.
    """
    cell = copy.copy(p)
    cell.styles = list(p.styles or ())
    cell.extra_generation_params = dict(p.extra_generation_params)
    cell.override_settings = {**p.override_settings, CHECKPOINT: target.info.name}
    cell.do_not_save_grid = True
    cell.prompt = p.prompt + target.tag
    same = source.info.filename == target.info.filename
    overrides = {"enabled": True, "source_checkpoint": SAME_AS_TARGET if same else source.info.name}
    if told is not None:
        overrides["inversion_prompt"] = told + source.tag
    setattr(cell, OVERRIDES, overrides)
    return cell


def told_to_sources(p: Any, request: Request, styles: Sequence[Style]) -> str | None:
    """The prompt of all sources where LoRAs are among the styles; ``None`` where the request says it.

    The main prompt carries the LoRA of a cell's target then, which is nothing to a source. LoRAs that it names itself
    are the target's, too, unless the source generates the content: then it has the same prompt.
    """
    if not any(style.tag for style in styles):
        return None
    if request.settings.inversion_prompt.strip():
        return request.settings.inversion_prompt
    prompt = _styled_prompts(p)[0]
    has_picture = request.picture is not None or getattr(p, "init_images", None)
    return (strip_tags(prompt)[0] if has_picture else prompt).strip()


def _styled_prompts(p: Any) -> list[str]:
    styles = list(p.styles or ())
    return [
        shared.prompt_styles.apply_styles_to_prompt(p.prompt, styles),
        shared.prompt_styles.apply_negative_styles_to_prompt(p.negative_prompt, styles),
    ]


def grid_facts(p: Any, own: slice, settings: Settings) -> dict[str, Any]:
    """What all cells of a grid depend on, as JSON.

    Args:
        p: the grid's request.
        own: where the grid's own arguments lie among those of all scripts.
        settings: Ditail's; of a checkpoint that they name, the file counts.
    """
    names = {field.name for field in dataclasses.fields(p) if field.init} | {"image_mask"}
    fields = {name: _plain(getattr(p, name, None)) for name in names - _WITHOUT_EFFECT}
    if not p.subseed_strength:
        fields["subseed"] = None  # it is drawn anew for each request, and has no effect
    arguments = list(p.script_args)
    del arguments[own]
    prompts = _styled_prompts(p)
    overrides = {name: value for name, value in p.override_settings.items() if name != CHECKPOINT}
    tags = [strip_tags(prompt)[1] for prompt in prompts]
    return {
        "request": fields,
        "prompts": prompts,
        "networks": [networks.files_of(found) for found in tags],
        "scripts": _plain(arguments[1:]),
        "mix": mix_file(settings),
        "aggregate": further_files(settings),
        "overrides": _plain(overrides),
        "options": _options(),
    }


def cell_key(facts: Mapping[str, Any], source: Style, target: Style) -> str:
    """The key of one cell; see ``cache/keys.py``."""
    return key_of("cell", **facts, styles=[_identity(source), _identity(target)])


def _identity(style: Style) -> list[Any]:
    """What a style is. By the content of its file, so that a grid goes on after the file was renamed or copied."""
    style.info.calculate_shorthash()  # the host does so before it loads, too, and remembers it
    checkpoint = identity.of_checkpoint(style.info)
    file = style.info.sha256 or checkpoint[0]
    vae = resolved_vae(style.info)
    lora = networks.files_of(strip_tags(style.tag)[1])
    return [file, checkpoint[1:], identity.of_file(vae), style.tag, lora]


def _options() -> dict[str, Any]:
    kept = {}
    for name, info in shared.opts.data_labels.items():
        if name != CHECKPOINT and (info.category_id in _CATEGORIES or info.infotext):
            kept[name] = _plain(getattr(shared.opts, name, None))
    return kept


def _plain(value: Any, depth: int = _DEPTH) -> Any:
    """A value as JSON: pictures by their content, objects by theirs. What has no content is never the same again."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Image.Image):
        return [value.mode, *value.size, hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return [str(value.dtype), *value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, (type, enum.Enum)) or depth == 0:
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, depth - 1) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_plain(entry, depth - 1) for entry in value]
    if getattr(value, "__dict__", None):
        return [type(value).__qualname__, _plain(vars(value), depth - 1)]
    return repr(value)
