"""Ditail's section of the settings page."""

from __future__ import annotations

import gradio as gr
from modules import shared

CACHE_MB = "ditail_cache_mb"
FEATURES_MB = "ditail_features_mb"
DISK_MB = "ditail_disk_cache_mb"
GRID_MB = "ditail_grid_mb"
EXACT_TIMES = "ditail_exact_times"

SECTION = ("ditail", "Ditail")

DEFAULT_CACHE_MB = 256
DEFAULT_GRID_MB = 1024
AUTOMATIC = -1


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
    on_disk = shared.OptionInfo(
        0,
        "Disk space for kept inversions (MB)",
        gr.Slider,
        {"minimum": 0, "maximum": 65536, "step": 64},
        section=SECTION,
    ).info("inversions on disk outlive the WebUI; 0 keeps none")
    shared.opts.add_option(DISK_MB, on_disk)
    cells = shared.OptionInfo(
        DEFAULT_GRID_MB,
        "Disk space for kept cells of grids (MB)",
        gr.Slider,
        {"minimum": 0, "maximum": 65536, "step": 64},
        section=SECTION,
    ).info("a cell that is kept is not made again; those of a grid that was broken off are kept in any case")
    shared.opts.add_option(GRID_MB, cells)
    features = shared.OptionInfo(
        AUTOMATIC,
        "Memory for recorded features (MB)",
        gr.Slider,
        {"minimum": AUTOMATIC, "maximum": 32768, "step": 1},
        section=SECTION,
    ).info(
        "with kept features another picture from the same source and target takes about as long as plain img2img; "
        "SD1.5 at 512x512 and 50 steps needs about 650 MB in half precision; -1: a quarter of what is free, 0: none"
    )
    shared.opts.add_option(FEATURES_MB, features)
    exact = shared.OptionInfo(False, "Exact times on a GPU", gr.Checkbox, section=SECTION).info(
        "the log and the result's info say where the seconds went; unless the GPU is waited for at each part's end, "
        "they go to the part that waits first; waiting makes the generation a little slower"
    )
    shared.opts.add_option(EXACT_TIMES, exact)


def cache_bytes() -> int:
    """How much memory kept inversions may take."""
    return int(getattr(shared.opts, CACHE_MB, DEFAULT_CACHE_MB)) * 2**20


def features_bytes() -> int | None:
    """How much memory recorded features may take; ``None`` for a share of what is free."""
    limit = int(getattr(shared.opts, FEATURES_MB, AUTOMATIC))
    return None if limit < 0 else limit * 2**20


def exact_times() -> bool:
    """Whether to wait for the GPU before the clock is read."""
    return bool(getattr(shared.opts, EXACT_TIMES, False))


def disk_bytes() -> int:
    """How much disk space kept inversions may take."""
    return int(getattr(shared.opts, DISK_MB, 0)) * 2**20


def grid_bytes() -> int:
    """How much disk space the cells of finished grids may take."""
    return int(getattr(shared.opts, GRID_MB, DEFAULT_GRID_MB)) * 2**20
