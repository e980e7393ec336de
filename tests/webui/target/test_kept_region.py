"""The region that inpainting keeps, for denoisers that hold it themselves and for those that do not."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

SOURCE, CLEAN, OWN = (torch.full((1, 1, 1, 2), value) for value in (3.0, 1.0, 7.0))
KEPT = torch.tensor([[[[1.0, 0.0]]]])


@pytest.fixture
def kept_region(host: SimpleNamespace) -> ModuleType:
    """The module under test; a script is told of each blend and changes nothing."""
    host.fake(scripts={"MaskBlendArgs": blend_args})
    return host.load("target.kept_region")


def blend_args(current: Any, nmask: Any, init: Any, mask: Any, blended: Any, denoiser: Any, sigma: Any) -> Any:
    return SimpleNamespace(blended_latent=blended)


def denoiser(before: bool, told: list[Any]) -> SimpleNamespace:
    scripts = SimpleNamespace(on_mask_blend=lambda p, args: told.append(args))
    masks = {"mask": KEPT, "nmask": 1 - KEPT}
    p = SimpleNamespace(scripts=scripts)
    return SimpleNamespace(**masks, init_latent=CLEAN, mask_before_denoising=before, p=p)


class Evaluation:
    """What a denoiser was given, and the mask and latent that it had."""

    def __init__(self, denoiser: SimpleNamespace) -> None:
        self.denoiser = denoiser

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.x, self.mask, self.latent = x, self.denoiser.mask, self.denoiser.init_latent
        return x + 1


def evaluated(module: ModuleType, evaluation: Any, denoiser: Any, *, in_timesteps: bool, with_noise: bool) -> Any:
    kept = module.KeptRegion(denoiser, in_timesteps, with_noise)
    result = kept.evaluated(evaluation, OWN, SOURCE, torch.ones(1))
    assert denoiser.mask is KEPT
    assert denoiser.init_latent is CLEAN
    return result


def test_the_webui_s_timestep_denoiser_holds_it_itself(kept_region: ModuleType):
    told: list[Any] = []
    at_work = denoiser(True, told)
    evaluation = Evaluation(at_work)
    evaluated(kept_region, evaluation, at_work, in_timesteps=True, with_noise=False)
    assert evaluation.x is OWN
    assert evaluation.mask is KEPT
    assert torch.equal(evaluation.latent, SOURCE)
    assert told == []


@pytest.mark.parametrize("with_noise", [False, True])
def test_another_s_is_given_it_and_has_no_mask(kept_region: ModuleType, with_noise: bool):
    told: list[Any] = []
    at_work = denoiser(False, told)
    evaluation = Evaluation(at_work)
    result = evaluated(kept_region, evaluation, at_work, in_timesteps=True, with_noise=with_noise)
    assert evaluation.x.flatten().tolist() == [3.0, 7.0]
    assert evaluation.mask is None
    assert result.flatten().tolist() == [4.0, 8.0]
    assert len(told) == 1


@pytest.mark.parametrize("with_noise", [False, True])
def test_both_are_as_before_when_the_evaluation_fails(kept_region: ModuleType, with_noise: bool):
    at_work = denoiser(False, [])

    def fail(_x: torch.Tensor) -> None:
        raise ValueError("meanwhile")

    kept = kept_region.KeptRegion(at_work, not with_noise, with_noise)
    with pytest.raises(ValueError, match="meanwhile"):
        kept.evaluated(fail, OWN, SOURCE, torch.ones(1))
    assert at_work.mask is KEPT
    assert at_work.init_latent is CLEAN


def test_samplers_with_sigmas_keep_the_webui_s_way(kept_region: ModuleType):
    at_work = denoiser(False, [])
    evaluation = Evaluation(at_work)
    evaluated(kept_region, evaluation, at_work, in_timesteps=False, with_noise=False)
    assert evaluation.x is OWN
    assert evaluation.latent is CLEAN
    assert evaluation.mask is KEPT


def test_samplers_with_sigmas_of_a_host_that_adds_noise_get_the_webui_s_way(kept_region: ModuleType):
    told: list[Any] = []
    at_work = denoiser(False, told)
    evaluation = Evaluation(at_work)
    result = evaluated(kept_region, evaluation, at_work, in_timesteps=False, with_noise=True)
    assert evaluation.x is OWN
    assert evaluation.mask is None
    assert result.flatten().tolist() == [1.0, 8.0]  # the clean latent where it is kept
    assert len(told) == 1
