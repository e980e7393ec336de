"""Ditail's section of the settings page."""

from __future__ import annotations

import gradio as gr
from modules import shared

CACHE_MB = "ditail_cache_mb"
FEATURES_MB = "ditail_features_mb"
FEATURES_RAM_MB = "ditail_features_ram_mb"
RECORD_ROWS = "ditail_record_rows"
DISK_MB = "ditail_disk_cache_mb"
MODELS_MB = "ditail_models_mb"
GRID_MB = "ditail_grid_mb"
EXACT_TIMES = "ditail_exact_times"

SECTION = ("ditail", "Ditail")

DEFAULT_CACHE_MB = 256
DEFAULT_GRID_MB = 1024
AUTOMATIC = -1


_MEGABYTES = (
    (
        MODELS_MB,
        "Main memory for source checkpoints (MB)",
        AUTOMATIC,
        {"minimum": AUTOMATIC, "maximum": 65536, "step": 1},
        "a source checkpoint that waits there is not loaded again for the next picture; SD1.5 takes about 2100 MB in "
        "half precision, SDXL 6900 MB; -1: up to half of what is free, 0: none",
    ),
    (
        CACHE_MB,
        "Memory for kept inversions (MB)",
        DEFAULT_CACHE_MB,
        {"minimum": 0, "maximum": 4096, "step": 16},
        "with a kept inversion the source checkpoint has nothing to do; 0 keeps none",
    ),
    (
        DISK_MB,
        "Disk space for kept inversions (MB)",
        0,
        {"minimum": 0, "maximum": 65536, "step": 64},
        "inversions on disk outlive the WebUI; 0 keeps none",
    ),
    (
        GRID_MB,
        "Disk space for kept cells of grids (MB)",
        DEFAULT_GRID_MB,
        {"minimum": 0, "maximum": 65536, "step": 64},
        "a cell that is kept is not made again; those of a grid that was broken off are kept in any case",
    ),
    (
        FEATURES_MB,
        "Memory for recorded features (MB)",
        AUTOMATIC,
        {"minimum": AUTOMATIC, "maximum": 32768, "step": 1},
        "with kept features another picture from the same source and target takes about as long as plain img2img; "
        "SD1.5 at 512x512 and 50 steps needs about 650 MB in half precision; -1: a quarter of what is free, 0: none",
    ),
    (
        FEATURES_RAM_MB,
        "Main memory for recorded features that a GPU has no room for (MB)",
        AUTOMATIC,
        {"minimum": AUTOMATIC, "maximum": 65536, "step": 1},
        "they are fetched one step ahead; -1: an eighth of what is free, 0: none; nothing is kept there without a GPU "
        "or if recorded features get no memory at all",
    ),
)
"""Name, label, default, limits and explanation of the options that say how much something may take."""


def add_options() -> None:
    """Add the options; for ``on_ui_settings``."""
    for name, label, default, limits, info in _MEGABYTES:
        _add_megabytes(name, label, default, limits, info)
    rows = {"minimum": 0, "maximum": 32, "step": 1}
    together = shared.OptionInfo(0, "Rows of the source recorded in one call", gr.Slider, rows, section=SECTION).info(
        "the source's features of several steps can be recorded at once, before their turn; 0: on a GPU as many as "
        "fill it and fit into a quarter of its free memory, else one"
    )
    shared.opts.add_option(RECORD_ROWS, together)
    exact = shared.OptionInfo(False, "Exact times on a GPU", gr.Checkbox, section=SECTION).info(
        "the log and the result's info say where the seconds went; unless the GPU is waited for at each part's end, "
        "they go to the part that waits first; waiting makes the generation a little slower"
    )
    shared.opts.add_option(EXACT_TIMES, exact)


def _add_megabytes(name: str, label: str, default: int, limits: dict[str, int], info: str) -> None:
    option = shared.OptionInfo(default, label, gr.Slider, limits, section=SECTION).info(info)
    shared.opts.add_option(name, option)


def cache_bytes() -> int:
    """How much memory kept inversions may take."""
    return int(getattr(shared.opts, CACHE_MB, DEFAULT_CACHE_MB)) * 2**20


def features_bytes() -> int | None:
    """How much memory recorded features may take; ``None`` for a share of what is free."""
    limit = int(getattr(shared.opts, FEATURES_MB, AUTOMATIC))
    return None if limit < 0 else limit * 2**20


def features_ram_bytes() -> int | None:
    """How much main memory features may take that a GPU has no room for; ``None`` for a share of what is free."""
    limit = int(getattr(shared.opts, FEATURES_RAM_MB, AUTOMATIC))
    return None if limit < 0 else limit * 2**20


def record_rows() -> int | None:
    """How many of the source's rows may be recorded in one UNet call; ``None`` to choose."""
    return int(getattr(shared.opts, RECORD_ROWS, 0)) or None


def exact_times() -> bool:
    """Whether to wait for the GPU before the clock is read."""
    return bool(getattr(shared.opts, EXACT_TIMES, False))


def model_bytes() -> int | None:
    """How much main memory source checkpoints may take that wait for the next picture; ``None`` for a share of it."""
    limit = int(getattr(shared.opts, MODELS_MB, AUTOMATIC))
    return None if limit < 0 else limit * 2**20


def disk_bytes() -> int:
    """How much disk space kept inversions may take."""
    return int(getattr(shared.opts, DISK_MB, 0)) * 2**20


def grid_bytes() -> int:
    """How much disk space the cells of finished grids may take."""
    return int(getattr(shared.opts, GRID_MB, DEFAULT_GRID_MB)) * 2**20
