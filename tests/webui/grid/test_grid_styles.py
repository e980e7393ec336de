"""The grid's labels, without a WebUI."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest


@pytest.fixture
def grid_styles(host: SimpleNamespace) -> ModuleType:
    for name in ("devices", "extra_networks", "sd_hijack"):
        sys.modules[f"modules.{name}"] = MagicMock()
        setattr(host.modules, name, sys.modules[f"modules.{name}"])
    return host.load("grid.styles")


def info(folder: str, stem: str, ending: str = "safetensors") -> SimpleNamespace:
    name = f"{folder}{stem}.{ending}"
    return SimpleNamespace(filename=f"/models/{name}", name=name, name_for_extra=stem)


def test_labels_have_no_ending_even_of_the_selected_checkpoint(grid_styles: ModuleType):
    ink, mosaic = info("", "ink"), info("drawn/", "mosaic")
    assert list(grid_styles.labels([ink, mosaic, ink]).values()) == ["ink", "mosaic"]


def test_labels_tell_checkpoints_of_one_name_apart(grid_styles: ModuleType):
    infos = [info("", "ink"), info("old/", "ink"), info("", "ink", "ckpt"), info("", "mosaic")]
    found = grid_styles.labels(infos)
    assert list(found.values()) == ["ink.safetensors", "old/ink.safetensors", "ink.ckpt", "mosaic"]
