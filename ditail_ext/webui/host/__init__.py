"""The WebUI itself: its model, samplers, networks, files, progress; only this room touches what it computes with.

Others import these modules, and nothing else of the room.
"""

__all__ = [
    "beside",
    "checkpoints",
    "foreign",
    "hypertile",
    "installed",
    "kinds",
    "model",
    "networks",
    "other_ditail",
    "other_vae",
    "page_errors",
    "preparation",
    "progress",
    "samplers",
    "tags",
    "vae_tiles",
]
