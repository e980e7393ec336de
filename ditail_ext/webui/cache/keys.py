"""What tells files, checkpoints' parts and whole lists of circumstances from others: the keys of all that is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules import sd_hijack

KEY = "key"
"""Of a kept thing's metadata: what identifies everything that it depends on."""

CONDITIONING_OPTIONS = (
    *("CLIP_stop_at_last_layers", "emphasis", "use_old_emphasis_implementation", "comma_padding_backtrack"),
    *("enable_emphasis", "sdxl_crop_left", "sdxl_crop_top", "fp8_storage", "cache_fp16_weight", "upcast_attn"),
    *("sd_noise_schedule", "use_downcasted_alpha_bar", "use_old_scheduling", "sd_lora", "lora_functional"),
    *("cross_attention_optimization", "tiling"),
)
"""The host's options that change what a prompt is encoded to, or how the UNet computes."""


def key_of(depends_on: Mapping[str, Any]) -> str:
    """SHA-256 over everything that a thing depends on, by names, as JSON."""
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()


def file_identity(path: str | None) -> list[Any] | None:
    """Path, size and time of change: what tells a file from another of its name."""
    if path is None:
        return None
    stat = Path(path).stat()
    return [str(Path(path).resolve()), stat.st_size, stat.st_mtime_ns]


def embeddings_now() -> list[list[str]]:
    """Textual inversions by name and content: a prompt may use any of them."""
    known = sd_hijack.model_hijack.embedding_db.word_embeddings
    return sorted([name, str(getattr(embedding, "shorthash", ""))] for name, embedding in known.items())
