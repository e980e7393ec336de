"""THE list of what cached results depend on; each cache takes its part of it.

A key is a hash over everything that a cached result depends on. Who caches something gives every fact that
:data:`DEPENDS_ON` names for it, no more and no fewer, so nothing is left out of one list that stands in another.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from modules import devices, sd_models, shared

from ... import __version__
from ..host import kinds

KEY = "key"
"""Of a cached thing's metadata: its key, for whoever depends on the thing."""

METHOD = 2
"""Raised when what the same request computes changes: caches on disk outlive an upgrade."""

_COMPUTED = ("version", "precision", "tiling")
_ENCODED = ("prompts", "networks", "conditioning", "embeddings")

DEPENDS_ON: dict[str, tuple[str, ...]] = {
    # an inverted picture
    "trajectory": (*_COMPUTED, *_ENCODED, "source", "vae", "vae precision", "picture", "scales", "rule", "levels"),
    # a run by which the source generates the content; the target and the VAEs are no part of it
    "trace": (*_COMPUTED, *_ENCODED, "source", "noise", "request", "options"),
    # what the record passes found in the target; prompt, seed, CFG scale and masks are no part of it
    "features": (*_COMPUTED, "sources", "target", "mix", "networks", "layers", "conditioning", "size"),
    # how far a checkpoint's noise estimate for a picture is off; the prompt is a part of it, scales are not
    "suggestion": (
        *("version", "precision", "prompts", "conditioning", "embeddings"),
        *("source", "vae", "vae precision", "picture"),
    ),
    # a source's model that waits in memory
    "model": ("source", "vae", "vae precision", "precision", "storage"),
    # one cell of a grid: all but the two styles is the same for each of its cells
    "cell": (
        *_ENCODED,
        "version",
        "precision",
        "vae precision",
        "request",
        "scripts",
        "mix",
        "aggregate",
        "overrides",
        "options",
        "styles",
    ),
}
"""By kind of cached result, the facts that it depends on."""

CONDITIONING_OPTIONS = (
    *("CLIP_stop_at_last_layers", "emphasis", "use_old_emphasis_implementation", "comma_padding_backtrack"),
    *("enable_emphasis", "sdxl_crop_left", "sdxl_crop_top", "fp8_storage", "cache_fp16_weight", "upcast_attn"),
    *("sd_noise_schedule", "use_downcasted_alpha_bar", "use_old_scheduling", "sd_lora", "lora_functional"),
    *("cross_attention_optimization", "tiling", "extra_networks_default_multiplier", "sd_unet", "s_min_uncond"),
    *(
        "sdxl_refiner_low_aesthetic_score",
        "sdxl_refiner_high_aesthetic_score",
        "textual_inversion_add_hashes_to_infotext",
    ),
)
"""The host's options that change what a prompt is encoded to, what a network's tag means, or how the UNet computes."""

_VAE_OPTIONS = ("auto_vae_precision", "auto_vae_precision_bfloat16", "sd_vae_encode_method")


def key_of(kind: str, **facts: Any) -> str:
    """The key of a cached result.

    Args:
        kind: of :data:`DEPENDS_ON`.
        facts: by name, with ``_`` for blanks, as JSON; those that this module can find out itself may be left out.

    Raises:
        KeyError: a fact is missing, or is not one of the kind's.
    """
    given = {name.replace("_", " "): value for name, value in facts.items()}
    wanted = DEPENDS_ON[kind]
    known = {name: find() for name, find in _OWN.items() if name in wanted and name not in given}
    every = {**known, **given}
    if set(every) != set(wanted):
        raise KeyError(f"the key of a {kind} depends on {sorted(wanted)}, not on {sorted(every)}")
    return hashlib.sha256(json.dumps([kind, every], sort_keys=True).encode()).hexdigest()


def embeddings_now() -> list[list[str]]:
    """Textual inversions by name and content: a prompt may use any of them."""
    known = kinds.of(sd_models.model_data.sd_model).embeddings(sd_models.model_data.sd_model)
    return sorted([name, str(getattr(embedding, "shorthash", ""))] for name, embedding in tuple(known.items()))


def options_now(names: tuple[str, ...]) -> list[str]:
    """Values of the host's options."""
    return [repr(getattr(shared.opts, name, None)) for name in names]


_OWN = {
    "version": lambda: [__version__, METHOD],
    "precision": lambda: [str(devices.dtype_unet), str(devices.device)],
    "vae precision": lambda: [str(devices.dtype_vae), *options_now(_VAE_OPTIONS)],
    "conditioning": lambda: options_now(CONDITIONING_OPTIONS),
    "embeddings": embeddings_now,
}
"""The facts that are the same for every request."""
