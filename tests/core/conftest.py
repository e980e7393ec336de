"""Fixtures of the core's tests: golden cases, UNets of every layout, and probes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from ditail_ext.core import (
    Condition,
    Level,
    NoiseSchedule,
    PredictNoise,
    Prompts,
    Region,
    SourceTrajectory,
    Window,
    invert,
    ldm_noise_predictor,
    mix,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``pytest tests/core --device cuda``: where the fast paths are compared with the three-row method."""
    parser.addoption("--device", default="cpu", help="of the tests of equality (tests/core)")


@dataclass(frozen=True)
class GoldenCase:
    """One golden case, in the core's own terms."""

    path: Path

    @cached_property
    def _content(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        with safe_open(self.path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["case"])  # noqa: SIM118

    def __getitem__(self, name: str) -> Tensor:
        return self._content[0][name]

    @property
    def case(self) -> dict[str, Any]:
        return self._content[1]

    @property
    def levels(self) -> list[Level]:
        schedule = NoiseSchedule(self["alphas_cumprod"])
        return [schedule.at_timestep(int(timestep)) for timestep in self["timesteps"]]

    @property
    def clean(self) -> Level:
        return Level(0.0, float(self["final_alpha_cumprod"]))

    @property
    def condition(self) -> Condition:
        return mix(self["emb_pos"], self["emb_neg"], self.case["alpha"], self.case["beta"])

    @property
    def prompts(self) -> Prompts:
        return Prompts(self["emb_pos"], self["emb_neg"], self["emb_empty"])

    @property
    def region(self) -> Region | None:
        if self.case["mask"] == "full":
            return None
        mask = torch.zeros(1, 1, *self["z0"].shape[-2:])
        mask[..., : mask.shape[-1] // 2] = 1.0
        return Region(mask)

    @property
    def windows(self) -> dict[str, Window]:
        steps = self.case["steps"]
        return {
            "feature_window": Window.from_ratio(self.case["conv_ratio"], steps),
            "attention_window": Window.from_ratio(self.case["attn_ratio"], steps),
        }

    def trajectory(self, unet: nn.Module, latent: Tensor | None = None) -> SourceTrajectory:
        latent = self["z0"] if latent is None else latent
        return invert(ldm_noise_predictor(unet), latent, self.levels[::-1], self.condition, clean=self.clean)


@pytest.fixture(scope="session", params=["full_mask_10_steps", "left_mask_12_steps"])
def golden(request: pytest.FixtureRequest, golden_folder: Path) -> GoldenCase:
    return GoldenCase(golden_folder / f"{request.param}.safetensors")


@pytest.fixture(scope="session")
def golden_trajectory(golden: GoldenCase, unets: SimpleNamespace) -> SourceTrajectory:
    return golden.trajectory(unets.source)


@pytest.fixture(scope="session")
def scene(golden_folder: Path, unets: SimpleNamespace) -> SimpleNamespace:
    """A source inverted along three levels, and prompts: the smallest run in which all phases occur."""
    golden = GoldenCase(golden_folder / "full_mask_10_steps.safetensors")
    levels = NoiseSchedule.stable_diffusion().ddim_levels(3)
    source = ldm_noise_predictor(unets.source)
    pictures = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(7)) * 0.8
    return SimpleNamespace(
        levels=levels,
        prompts=golden.prompts,
        target=unets.target,
        predict=ldm_noise_predictor(unets.target),
        one=invert(source, pictures[:1], levels[::-1], golden.condition),
        three=invert(source, pictures, levels[::-1], golden.condition),
    )


LAYOUTS: dict[str, dict[str, Any]] = {
    "sd1": {"attention_resolutions": [4, 2, 1], "channel_mult": [1, 1, 1, 1]},
    "sd2": {"attention_resolutions": [4, 2, 1], "channel_mult": [1, 1, 1, 1], "use_linear_in_transformer": True},
    "sdxl": {
        "attention_resolutions": [4, 2],
        "channel_mult": [1, 1, 1],
        "transformer_depth": 2,
        "context_dim": [16, 16],
    },
    "sd1 scale-shift": {
        "attention_resolutions": [4, 2, 1],
        "channel_mult": [1, 1, 1, 1],
        "use_scale_shift_norm": True,
    },
    "refiner": {"attention_resolutions": [4, 2], "channel_mult": [1, 1, 1, 1]},
}


@pytest.fixture(scope="session")
def make_unet() -> Callable[[str], nn.Module]:
    """``make_unet(layout)``: a small random UNet of a layout, the same one every time; context width 16."""
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    common = {"image_size": 16, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": 2}
    attention = {"num_heads": 2, "use_spatial_transformer": True, "context_dim": 16, "legacy": False}

    @cache
    def make(layout: str) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            unet = UNetModel(**{**common, **attention, **LAYOUTS[layout]}).eval().requires_grad_(False)
            for parameter in unet.parameters():
                if parameter.ndim > 1 and not parameter.any():  # ldm starts some layers at zero: they would hide all
                    parameter.normal_(std=0.1)
        return unet

    return make


@dataclass
class Call:
    latent: Tensor
    level: Level
    cond: Condition
    epsilon: Tensor


@dataclass
class Probe:
    """A noise predictor that remembers its calls."""

    predict: PredictNoise
    calls: list[Call] = field(default_factory=list)

    def __call__(self, latent: Tensor, level: Level, cond: Condition) -> Tensor:
        call = Call(latent.clone(), level, cond, torch.empty(0))
        self.calls.append(call)  # before the prediction: a record pass never returns from it
        call.epsilon = self.predict(latent, level, cond)
        return call.epsilon


@pytest.fixture(scope="session")
def probe() -> type[Probe]:
    return Probe


@pytest.fixture(scope="session")
def trace() -> Callable[[nn.Module], Any]:
    """``with trace(unet) as names``: the modules that are called, in order."""

    @contextmanager
    def tracing(unet: nn.Module) -> Iterator[list[str]]:
        names: list[str] = []

        def hook_for(name: str) -> Callable[..., None]:
            return lambda *_: names.append(name)

        handles = [m.register_forward_pre_hook(hook_for(name)) for name, m in unet.named_modules() if name]
        try:
            yield names
        finally:
            for handle in handles:
                handle.remove()

    return tracing


@pytest.fixture(scope="session")
def fingerprint() -> Callable[[nn.Module], Any]:
    """Everything about a UNet that somebody could have changed: attributes, hooks, weights, its classes."""

    def inside(value: Any) -> Any:
        if isinstance(value, dict):
            return [(key, id(entry), getattr(entry, "_version", None)) for key, entry in value.items()]
        return id(value) if not isinstance(value, bool | int | float | str | list | tuple) else repr(value)

    def fingerprint_of(unet: nn.Module) -> Any:
        modules = {
            name: [(key, inside(value)) for key, value in vars(module).items()]
            for name, module in unet.named_modules()
        }
        kinds = {cls for module in unet.modules() for cls in type(module).__mro__}
        classes = {cls.__qualname__: {key: id(value) for key, value in vars(cls).items()} for cls in kinds}
        everywhere = [list(hooks) for hooks in _global_hooks()]
        return modules, classes, everywhere, torch.get_rng_state().tolist()

    return fingerprint_of


def _global_hooks() -> list[dict[int, Any]]:
    names = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_forward_hooks_always_called")
    return [getattr(torch.nn.modules.module, name) for name in names]


@pytest.fixture
def in_two_calls() -> Callable[[PredictNoise, int], PredictNoise]:
    """Makes of a predictor one that calls the UNet once for each prompt; the source's row stays whole."""

    def apart_for(predict: PredictNoise, images: int) -> PredictNoise:
        def apart(latent: Tensor, level: Level, cond: Condition) -> Tensor:
            if len(latent) != 2 * images:
                return predict(latent, level, cond)
            calls = zip(latent.chunk(2), cond.chunk(2), strict=True)
            return torch.cat([predict(rows, level, half) for rows, half in calls])

        return apart

    return apart_for
