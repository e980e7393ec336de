"""What Forge's models are asked and told, with a small stand-in for its backend."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ditail_ext.core import NoiseSchedule
from ditail_ext.errors import UnsupportedModelError

SCHEDULE = NoiseSchedule.stable_diffusion()


class Prediction:
    """As the host's own, with its noise levels alone."""

    def __init__(self, prediction_type: str = "epsilon") -> None:
        self.prediction_type = prediction_type
        self.sigmas = ((1 - SCHEDULE.alpha_bar) / SCHEDULE.alpha_bar).sqrt().float()

    def set_sigmas(self, sigmas: torch.Tensor) -> None:
        self.sigmas = sigmas.float()


class Flow(Prediction):
    """What Flux has."""


class Posterior:
    def mode(self) -> torch.Tensor:
        return torch.full((1, 4, 2, 2), 2.0)

    def sample(self) -> torch.Tensor:
        return torch.randn(1, 4, 2, 2)


class Autoencoder(nn.Module):
    def encode(self, x: torch.Tensor, regulation: Any = None) -> torch.Tensor:
        return Posterior().sample() if regulation is None else regulation(Posterior())

    def process_in(self, latent: torch.Tensor) -> torch.Tensor:
        return latent * 0.5


class VAE:
    """Its two ways to encode: at once, and in tiles, which knows no regulation."""

    def __init__(self) -> None:
        self.first_stage_model, self.in_tiles = Autoencoder(), False

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.shape[-1] == 3
        if self.in_tiles:
            return self.first_stage_model.encode(pixels)
        return self.first_stage_model.encode(pixels, None)


class Patcher:
    def __init__(self, model: nn.Module) -> None:
        self.model, self.model_options, self.object_patches = model, {}, {}


class KModel(nn.Module):
    def __init__(self, predictor: Any) -> None:
        super().__init__()
        self.diffusion_model, self.predictor = nn.Linear(1, 1), predictor

    def apply_model(self, x: torch.Tensor, t: torch.Tensor, **_: Any) -> torch.Tensor:
        raise NotImplementedError


class Objects(SimpleNamespace):
    def shallow_copy(self) -> Objects:
        return Objects(**vars(self))


def engine(predictor: Any = None, **more: Any) -> SimpleNamespace:
    clip = SimpleNamespace(cond_stage_model=nn.Linear(2, 2))
    objects = Objects(unet=Patcher(KModel(predictor or Prediction())), clip=clip, vae=VAE())
    groups = {"forge_objects": objects, "forge_objects_original": objects.shallow_copy()}
    more = {"forge_objects_after_applying_lora": objects.shallow_copy(), "current_lora_hash": "[]", **more}
    return SimpleNamespace(**groups, model_config=SimpleNamespace(), tiling_enabled=False, **more)


def read(file: str, *_: Any, **__: Any) -> dict[str, Any]:
    return {"from": file}


@pytest.fixture
def forge(host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The kinds on a host with Forge's backend."""
    contents: dict[str, dict[str, Any]] = {
        "backend": {},
        "backend.loader": {"load_torch_file": read},
        "backend.memory_management": {"current_loaded_models": [], "get_torch_device": lambda: torch.device("cpu")},
        "backend.modules": {},
        "backend.modules.k_prediction": {
            "Prediction": Prediction,
            "rescale_zero_terminal_snr_sigmas": lambda sigmas: torch.cat([sigmas[:-1], torch.tensor([4518.0])]),
        },
        "backend.sampling": {},
        "backend.sampling.sampling_function": {"sampling_prepare": None, "sampling_cleanup": None},
        "backend.text_processing": {},
        "backend.text_processing.classic_engine": {"last_extra_generation_params": {"TI": "of the target"}},
        "backend.utils": {"load_torch_file": read},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    options = SimpleNamespace(sd_noise_schedule="Default", CLIP_stop_at_last_layers=2)
    host.fake(sd_models={"shared": SimpleNamespace(opts=options)})
    kinds = host.load("host.kinds")
    yield SimpleNamespace(kinds=kinds, options=options, models=host.modules.sd_models)
    sys.modules.pop("ditail_ext.webui.host.kinds.forge", None)


def test_it_is_told_by_its_predictor(forge: SimpleNamespace):
    model = engine()
    forge.kinds.require_known(model)
    assert type(forge.kinds.of(model)).__name__ == "Forge"
    assert forge.kinds.of(model).unet(model) is model.forge_objects.unet.model.diffusion_model


def test_flux_has_no_unet(forge: SimpleNamespace):
    model = engine(Flow("const"))
    assert forge.kinds.of(model).unet(model) is None


def test_what_stands_for_a_model_before_the_first_request_is_none(forge: SimpleNamespace):
    with pytest.raises(UnsupportedModelError, match="none of the hosts"):
        forge.kinds.require_known(SimpleNamespace(cond_stage_model=None))


def test_v_and_the_schedule_are_its_predictor_s(forge: SimpleNamespace):
    model = engine(Prediction("v_prediction"))
    kind = forge.kinds.of(model)
    assert kind.predicts_v(model)
    assert torch.allclose(kind.alpha_bars(model), SCHEDULE.alpha_bar, rtol=1e-5)


@pytest.mark.parametrize("in_tiles", [False, True])
def test_a_picture_s_latent_is_the_mean(forge: SimpleNamespace, in_tiles: bool):
    model = engine()
    model.forge_objects.vae.in_tiles = in_tiles
    latent = forge.kinds.of(model).encode(model, torch.zeros(2, 3, 16, 16), torch.float32)
    assert torch.equal(latent, torch.ones(2, 4, 2, 2))
    assert "encode" not in vars(model.forge_objects.vae.first_stage_model)


def test_zero_terminal_snr_is_in_force_for_the_source_and_then_not(forge: SimpleNamespace):
    model = engine()
    kind, predictor = forge.kinds.of(model), model.forge_objects.unet.model.predictor
    before = predictor.sigmas
    with kind.schedule_of(None, model):
        assert predictor.sigmas is before
    forge.options.sd_noise_schedule = "Zero Terminal SNR"
    p = SimpleNamespace(extra_generation_params={})
    with kind.schedule_of(p, model):
        assert float(kind.alpha_bars(model)[-1]) < 1e-6
        with kind.schedule_of(p, model):  # it is in force: once is enough
            assert predictor.sigmas[-2] == before[-2]
    assert predictor.sigmas is before
    assert p.extra_generation_params == {"Noise Schedule": "Zero Terminal SNR"}


def test_a_failure_leaves_the_noise_levels_as_they_were_loaded(forge: SimpleNamespace):
    model = engine()
    kind, predictor = forge.kinds.of(model), model.forge_objects.unet.model.predictor
    with kind.schedule_of(None, model):
        before = predictor.sigmas
    predictor.set_sigmas(before * 2)  # the host, around a sampling that fails
    kind.after_failure(model)
    assert predictor.sigmas is before


def test_a_source_s_prompts_leave_no_notes(forge: SimpleNamespace):
    model = engine()
    notes = sys.modules["backend.text_processing.classic_engine"]
    with forge.kinds.of(model).without_networks(model):
        notes.last_extra_generation_params["TI"] = "of the source"  # type: ignore[attr-defined]
        model.current_lora_hash = "another"
    assert notes.last_extra_generation_params == {"TI": "of the target"}  # type: ignore[attr-defined]
    assert model.current_lora_hash == "[]"


def test_the_source_s_own_vae_stays_where_it_has_networks_of_its_own(forge: SimpleNamespace):
    model = engine()
    another = model.forge_objects.vae = VAE()
    with forge.kinds.of(model).without_networks(model):
        assert model.forge_objects.vae is another
        assert model.forge_objects.unet is model.forge_objects_original.unet
    assert model.forge_objects.vae is another


def test_another_model_is_looked_at_and_has_what_the_host_notes_on_its_own(forge: SimpleNamespace):
    loader, looked = sys.modules["backend.loader"], []

    def load(file: str, additional_state_dicts: list[str]) -> SimpleNamespace:
        for one in (file, *additional_state_dicts):
            loader.load_torch_file(one)  # type: ignore[attr-defined]
        return engine()

    forge.models.forge_loader = load
    forge.models.model_data.forge_loading_parameters = {"additional_modules": ["vae.safetensors"]}
    info = SimpleNamespace(filename="beta.safetensors", calculate_shorthash=lambda: "beta's")
    model = forge.kinds.of(engine()).load(info, looked.append)
    assert looked == [{"from": "beta.safetensors"}]
    assert (model.sd_checkpoint_info, model.sd_model_hash, model.comments) == (info, "beta's", [])
    assert loader.load_torch_file is read  # type: ignore[attr-defined]


def test_a_released_model_is_on_no_device(forge: SimpleNamespace):
    """The host's list of these would hold it for ever: on the CPU it never frees anything by itself."""
    ours, other = engine(), engine()
    held = sys.modules["backend.memory_management"].current_loaded_models  # type: ignore[attr-defined]
    unloaded: list[Any] = []

    def loaded(part: nn.Module) -> SimpleNamespace:
        unload = lambda avoid_model_moving: unloaded.append((part, avoid_model_moving))  # noqa: E731
        return SimpleNamespace(model=SimpleNamespace(model=part), model_unload=unload, model_accelerated=False)

    parts = [*forge.kinds.of(ours).parts(ours), *forge.kinds.of(other).parts(other)]
    held.extend(map(loaded, parts))
    forge.kinds.of(ours).release(ours)
    assert [one.model.model for one in held] == parts[3:]
    assert len(unloaded) == 3
    assert all(stays for _, stays in unloaded)


def test_lora_strengths_are_in_the_key(forge: SimpleNamespace):
    model = engine(current_lora_hash="[['tiny', 0.5, 0.5, False]]")
    assert "0.5" in forge.kinds.of(model).merged_networks(model)


@pytest.mark.parametrize(
    ("place", "does"),
    [
        (("model_options", "model_function_wrapper"), "cuts the picture into tiles"),
        (("object_patches", "predictor"), "changes the noise schedule"),
    ],
)
def test_what_extensions_asked_the_patcher_is_refused(forge: SimpleNamespace, place: tuple[str, str], does: str):
    model = engine()
    assert forge.kinds.of(model).patched(model) is None
    getattr(model.forge_objects.unet, place[0])[place[1]] = read
    who, what = forge.kinds.of(model).patched(model)
    assert who
    assert what.startswith(does)


@pytest.mark.parametrize(("kept_in", "packed"), [(torch.float16, False), (torch.float8_e4m3fn, False), ("nf4", True)])
def test_weights_that_are_packed_are_told_from_those_that_can_be_mixed(
    forge: SimpleNamespace, kept_in: object, packed: bool
):
    model = engine()
    forge.kinds.of(model).unet(model)
    model.forge_objects.unet.model.storage_dtype = kept_in
    assert forge.kinds.of(model).is_packed(model) is packed
