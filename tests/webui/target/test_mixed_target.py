"""The mix of a loaded model with a file, without a WebUI: what it reads, when it ends."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ditail_ext.core import interpolate
from ditail_ext.errors import CheckpointError
from ditail_ext.settings import Settings

UNET = "model.diffusion_model."
FURTHER = ("devices", "extra_networks", "sd_hijack", "prompt_parser", "sd_samplers_common", "images", "processing")


@pytest.fixture
def mixing(host: SimpleNamespace) -> ModuleType:
    """The module under test. Of the host's other modules nothing is needed but that they are there."""
    for name in (*FURTHER, "sd_samplers", "processing_scripts", "processing_scripts.comments"):
        sys.modules[f"modules.{name}"] = MagicMock()
        setattr(host.modules, name, sys.modules[f"modules.{name}"])
    host.modules.extra_networks.extra_network_registry = {}
    host.modules.shared.opts.disable_mmap_load_safetensors = False
    host.modules.sd_models.read_state_dict = lambda path, map_location: torch.load(path, map_location=map_location)
    return host.load("target.mix")


class Linear(nn.Linear):
    """As the host's Lora extension makes it."""

    network_current_names: Any = ()
    network_weights_backup: Any = None
    network_bias_backup: Any = None

    def merge(self, change: float) -> None:
        """What the extension does at a call while a LoRA is active."""
        if self.network_weights_backup is None:
            self.network_weights_backup, self.network_bias_backup = self.weight.detach().clone(), None
        self.weight.data.copy_(self.network_weights_backup + change)
        self.network_current_names = ("lora",)


class FakeLora(ModuleType):
    """The extension's two functions that undo a merge."""

    def network_restore_weights_from_backup(self, layer: Linear) -> None:
        layer.weight.copy_(layer.network_weights_backup)

    def network_reset_cached_weight(self, layer: Linear) -> None:
        layer.network_current_names, layer.network_weights_backup = (), None


@pytest.fixture
def model() -> SimpleNamespace:
    torch.manual_seed(1)
    unet = nn.Sequential(Linear(3, 3), nn.GroupNorm(1, 3))
    return SimpleNamespace(
        model=SimpleNamespace(diffusion_model=unet), sd_checkpoint_info=SimpleNamespace(filename="/target")
    )


def weights(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.model.diffusion_model.state_dict().items()}


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def between(own: dict[str, Tensor], other: dict[str, Tensor], gamma: float) -> dict[str, Tensor]:
    return {name: interpolate(own[name], other[name], gamma) for name in own}


@pytest.fixture
def other(model: SimpleNamespace) -> dict[str, Tensor]:
    return {name: torch.randn(value.shape) for name, value in weights(model).items()}


@pytest.fixture(params=["safetensors", "read whole", "ckpt"])
def mix(
    request: pytest.FixtureRequest, mixing: Any, host: SimpleNamespace, other: dict[str, Tensor], tmp_path: Path
) -> Any:
    """Halfway to a file with other networks beside its UNet."""
    tensors = {UNET + name: value for name, value in other.items()}
    tensors |= {"first_stage_model.0.weight": torch.zeros(1), "cond_stage_model.0.weight": torch.zeros(1)}
    path = tmp_path / ("q.ckpt" if request.param == "ckpt" else "q.safetensors")
    torch.save(tensors, path) if path.suffix == ".ckpt" else save_file(tensors, path)
    if request.param == "read whole":
        from safetensors.torch import load_file

        host.modules.shared.opts.disable_mmap_load_safetensors = True
        host.modules.sd_models.read_state_dict = lambda path, map_location: load_file(path)
    info = SimpleNamespace(filename=str(path), name=path.name, title=path.name)
    return mixing.Mix(info, 0.5)


def entered(mixing: Any, model: Any, mix: Any) -> Any:
    return mixing.mixed_target(model, mix, mixing.TimeSplit())


def test_it_is_mixed_within_and_back_after(mixing: Any, model: SimpleNamespace, mix: Any, other: dict[str, Tensor]):
    own = weights(model)
    with entered(mixing, model, mix):
        assert equal(weights(model), between(own, other, 0.5))
    assert equal(weights(model), own)
    assert not model.model.diffusion_model._load_state_dict_pre_hooks


def test_another_checkpoint_loaded_meanwhile_stays_as_it_is(
    mixing: Any, model: SimpleNamespace, mix: Any, other: dict[str, Tensor]
):
    """Where the host's loader passes a weight over, it finds the target's and not the mix."""
    own = weights(model)
    refiner = {"0.weight": torch.ones(3, 3)}
    with entered(mixing, model, mix):
        model.model.diffusion_model.load_state_dict(refiner, strict=False)
        assert equal(weights(model), {**own, **refiner})
    assert equal(weights(model), {**own, **refiner})
    assert not model.model.diffusion_model._load_state_dict_pre_hooks


@pytest.mark.parametrize("before", [False, True])
def test_merged_networks_are_taken_out_first_and_last(
    mixing: Any,
    model: SimpleNamespace,
    mix: Any,
    other: dict[str, Tensor],
    before: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(mixing.networks, "lora_module", lambda: FakeLora("networks"))
    layer, own = model.model.diffusion_model[0], weights(model)
    if before:
        layer.merge(5.0)
    with entered(mixing, model, mix):
        halfway = between(own, other, 0.5)
        assert equal(weights(model), halfway)
        layer.merge(7.0)
        assert torch.equal(layer.weight, halfway["0.weight"] + 7.0)
    assert equal(weights(model), own)
    assert (layer.network_weights_backup, layer.network_current_names) == (None, ())


def test_copies_in_half_precision_are_mixed_too(
    mixing: Any, model: SimpleNamespace, mix: Any, other: dict[str, Tensor]
):
    layer = model.model.diffusion_model[0]
    layer.fp16_weight = kept = layer.weight.detach().half()
    with entered(mixing, model, mix):
        assert torch.equal(layer.fp16_weight, interpolate(kept, other["0.weight"], 0.5))
    assert layer.fp16_weight is kept


def test_averaged_weights_where_the_target_samples_with_its_own(mixing: Any):
    keys = [f"{UNET}out.2.weight", f"{UNET}out.2.bias", "model_ema.diffusion_modelout2weight", "model_ema.decay"]
    plain = {"out.2.weight": keys[0], "out.2.bias": keys[1]}
    assert mixing._names(keys, SimpleNamespace()) == plain
    assert mixing._names(keys, SimpleNamespace(use_ema=True)) == {**plain, "out.2.weight": keys[2]}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, "no checkpoint to mix"),
        ({"mix_weight": 0.5}, "no checkpoint to mix"),
        ({"mix_checkpoint": "", "mix_weight": 0.5}, "no checkpoint to mix"),
        ({"mix_checkpoint": "q"}, "the mix weight is 0"),
        ({"mix_checkpoint": "target", "mix_weight": 0.5}, "with itself"),
    ],
)
def test_why_there_is_no_mix(
    mixing: Any, model: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], why: str
):
    monkeypatch.setattr(mixing, "find_checkpoint", lambda name, _argument: SimpleNamespace(filename=f"/{name}"))
    settings = Settings(**values)
    assert mixing.find_mix(settings, model) is None
    assert why in mixing.why_no_mix(settings)


def test_a_file_that_does_not_fit_changes_nothing(mixing: Any, model: SimpleNamespace, tmp_path: Path):
    own = weights(model)
    path = tmp_path / "lora.safetensors"
    save_file({"lora_unet_x.alpha": torch.zeros(1)}, path)
    info = SimpleNamespace(filename=str(path), name=path.name, title=path.name)
    mix = mixing.Mix(info, 0.5)
    refused = pytest.raises(CheckpointError, match=r"'lora\.safetensors' has another architecture")
    with refused, entered(mixing, model, mix):
        pytest.fail("must not come here")
    path.unlink()
    refused = pytest.raises(CheckpointError, match=r"'lora\.safetensors' could not be read")
    with refused, entered(mixing, model, mix):
        pytest.fail("must not come here")
    assert equal(weights(model), own)
    assert not model.model.diffusion_model._load_state_dict_pre_hooks


def test_mixes_are_told_apart_by_file_and_weight(mixing: Any, mix: Any):
    path = Path(mix.info.filename)
    before = mix.identity()
    assert mixing.Mix(mix.info, 0.4).identity() != before
    path.write_bytes(path.read_bytes() + b" ")
    assert mix.identity() != before
