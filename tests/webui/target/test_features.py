"""How much of what may be taken for recorded features, and for recording ahead, without a WebUI."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn

GIB = 2**30
LATENTS = torch.empty(1, 4, 64, 64, device="meta")


@pytest.fixture
def features(host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module under test, on a GPU with 8 GiB free beside 16 GiB of main memory."""
    monkeypatch.setitem(sys.modules, "psutil", MagicMock())  # the WebUI brings it
    for name in (
        "sd_hijack_unet",
        "extra_networks",
        "sd_hijack",
        "prompt_parser",
        "processing",
        "devices",
        "sd_samplers_common",
    ):
        monkeypatch.setitem(sys.modules, f"modules.{name}", MagicMock())
        setattr(host.modules, name, sys.modules[f"modules.{name}"])
    host.modules.devices.device = torch.device("cuda")
    host.modules.shared.parallel_processing_allowed = True
    host.modules.shared.sd_model = SimpleNamespace()
    module = host.load("target.features")
    monkeypatch.setattr(module, "free_bytes", lambda device: 8 * GIB)
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * GIB))
    return module


def unet(hooked: bool = False) -> nn.Module:
    made = nn.Sequential(nn.Linear(2, 2))
    made.model_channels = 320
    if hooked:
        made[0].register_forward_hook(lambda *_: None)
    return made


def test_on_a_gpu_as_many_rows_as_fill_it(features: ModuleType):
    assert features.rows_ahead(unet())(LATENTS) == 8


def test_one_level_at_a_time_where_memory_matters(host: SimpleNamespace, features: ModuleType):
    host.modules.shared.opts.ditail_record_rows = 4
    assert features.rows_ahead(unet())(LATENTS) == 4
    assert features.rows_ahead(unet(hooked=True))(LATENTS) == 4  # what others hook is put aside for the record pass
    host.modules.shared.parallel_processing_allowed = False
    assert features.rows_ahead(unet()) is None


def test_on_a_cpu_only_if_asked(host: SimpleNamespace, features: ModuleType):
    host.modules.devices.device = torch.device("cpu")
    assert features.rows_ahead(unet()) is None
    host.modules.shared.opts.ditail_record_rows = 4
    assert features.rows_ahead(unet())(LATENTS) == 4


@pytest.mark.parametrize(
    ("near", "ram", "expected"),
    [(-1, -1, (2 * GIB, 2 * GIB)), (-1, 0, (2 * GIB, 0)), (100, 50, (100 * 2**20, 50 * 2**20)), (0, -1, (0, 0))],
)
def test_budgets(host: SimpleNamespace, features: ModuleType, near: int, ram: int, expected: tuple[int, int]):
    """No memory for features means none, in main memory neither."""
    host.modules.shared.opts.ditail_features_mb, host.modules.shared.opts.ditail_features_ram_mb = near, ram
    assert (features._budget(), features._ram_budget()) == expected


def test_without_a_gpu_there_is_one_memory(host: SimpleNamespace, features: ModuleType):
    host.modules.devices.device = torch.device("cpu")
    assert (features._budget(), features._ram_budget()) == (4 * GIB, 0)
