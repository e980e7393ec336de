"""Ditail's section of the settings page."""

from __future__ import annotations

import gradio as gr
from modules import shared

CACHE_MB = "ditail_cache_mb"

SECTION = ("ditail", "Ditail")

DEFAULT_CACHE_MB = 256


def add_options() -> None:
    """Add the options; for ``on_ui_settings``."""
    limit = shared.OptionInfo(
        DEFAULT_CACHE_MB,
        "Memory for kept inversions (MB)",
        gr.Slider,
        {"minimum": 0, "maximum": 4096, "step": 16},
        section=SECTION,
    ).info("with a kept inversion the source checkpoint is not loaded again; 0 keeps none")
    shared.opts.add_option(CACHE_MB, limit)


def cache_bytes() -> int:
    """How much memory kept inversions may take."""
    return int(getattr(shared.opts, CACHE_MB, DEFAULT_CACHE_MB)) * 2**20
