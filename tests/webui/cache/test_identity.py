"""A model is what it was loaded from, whatever the file is now."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, info: Any, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.model = nn.Module()
        self.model.diffusion_model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Conv2d(4, 4, 3))
        self.sd_checkpoint_info = info


class Info:
    def __init__(self, path: Path) -> None:
        self.filename = str(path)


@pytest.fixture
def identity(host: SimpleNamespace) -> ModuleType:
    host.modules.sd_models.checkpoints_loaded = {}
    return host.load("cache.identity")


@pytest.fixture
def info(tmp_path: Path) -> Info:
    return written(tmp_path / "train.safetensors", b"old")


def written(path: Path, content: bytes) -> Info:
    path.write_bytes(content)
    moment = path.stat().st_mtime_ns + 10**9 * len(content)
    os.utime(path, ns=(moment, moment))
    return Info(path)


def test_an_overwritten_file_does_not_change_what_is_loaded(identity: ModuleType, info: Info):
    model = Model(info, 1)
    identity.remember(model)
    before = identity.of_model(model)
    assert before == identity.of_checkpoint(info)
    written(Path(info.filename), b"newer")
    assert identity.of_model(model) == before != identity.of_checkpoint(info)
    identity.remember(model)  # another VAE was loaded, or the host took the model again
    assert identity.of_model(model) == before
    model.model.load_state_dict(Model(info, 2).model.state_dict())
    identity.remember(model)  # the new weights were loaded into the same object
    assert identity.of_model(model) == identity.of_checkpoint(info) != before


def test_a_merged_lora_does_not_make_another_model(identity: ModuleType, info: Info):
    model = Model(info, 1)
    identity.remember(model)
    before = identity.of_model(model)
    layer = model.model.diffusion_model[0]
    layer.network_weights_backup = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1.0
    written(Path(info.filename), b"newer")
    identity.remember(model)
    assert identity.of_model(model) == before


def test_fine_tunes_with_the_same_norms_are_told_apart(identity: ModuleType, info: Info):
    model = Model(info, 1)
    identity.remember(model)
    before = identity.of_model(model)
    written(Path(info.filename), b"newer")
    with torch.no_grad():
        model.model.diffusion_model[2].weight.mul_(1.01)
    identity.remember(model)
    assert identity.of_model(model) != before


def test_a_file_that_is_gone_while_it_is_loaded(identity: ModuleType, info: Info):
    model = Model(info, 1)
    identity.remember(model)
    before = identity.of_model(model)
    Path(info.filename).unlink()
    assert identity.of_model(model) == before


def test_a_model_that_nobody_announced(identity: ModuleType, info: Info, tmp_path: Path):
    model = Model(info, 1)
    assert identity.of_model(model) == identity.of_checkpoint(info)
    model.sd_checkpoint_info = written(tmp_path / "other.safetensors", b"x")
    assert identity.of_model(model) == identity.of_checkpoint(model.sd_checkpoint_info)


def test_the_configuration_beside_it_counts(identity: ModuleType, info: Info):
    before = identity.of_checkpoint(info)
    Path(info.filename).with_suffix(".yaml").write_text("parameterization: v", "utf-8")
    assert identity.of_checkpoint(info) != before


def test_what_the_host_keeps_in_main_memory_counts_and_not_the_file(
    identity: ModuleType, host: SimpleNamespace, info: Info
):
    host.modules.shared.opts.sd_checkpoint_cache = 1
    kept = host.modules.sd_models.checkpoints_loaded
    fresh = identity.of_checkpoint(info)
    kept[info] = Model(info, 1).state_dict()
    cached = identity.of_checkpoint(info)
    assert cached != fresh
    kept[info] = Model(info, 2).state_dict()
    assert identity.of_checkpoint(info) not in (fresh, cached)


def test_files(identity: ModuleType, tmp_path: Path):
    path = tmp_path / "vae.pt"
    assert identity.of_file(None) is None
    assert identity.of_file(path) is None
    written(path, b"a")
    before = identity.of_file(path)
    written(path, b"bb")
    assert identity.of_file(path) != before
