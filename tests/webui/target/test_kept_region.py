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


def blend_args(current: Any, nmask: Any, init: Any, mask: Any, blended: Any, denoiser: Any = None) -> Any:
    return SimpleNamespace(blended_latent=blended)


def denoiser(before: bool, told: list[Any]) -> SimpleNamespace:
    scripts = SimpleNamespace(on_mask_blend=lambda p, args: told.append(args))
    masks = {"mask": KEPT, "nmask": 1 - KEPT}
    p = SimpleNamespace(scripts=scripts)
    return SimpleNamespace(**masks, init_latent=CLEAN, mask_before_denoising=before, p=p)


def test_the_webui_s_timestep_denoiser_holds_it_itself(kept_region: ModuleType):
    told: list[Any] = []
    at_work = denoiser(True, told)
    with kept_region.at_the_source_s_level(at_work, OWN, SOURCE, in_timesteps=True) as x:
        assert x is OWN
        assert at_work.mask is KEPT
        assert torch.equal(at_work.init_latent, SOURCE)
    assert at_work.init_latent is CLEAN
    assert told == []


def test_another_s_is_given_it_and_has_no_mask(kept_region: ModuleType):
    told: list[Any] = []
    at_work = denoiser(False, told)
    with kept_region.at_the_source_s_level(at_work, OWN, SOURCE, in_timesteps=True) as x:
        assert x.flatten().tolist() == [3.0, 7.0]
        assert at_work.mask is None
    assert at_work.mask is KEPT
    assert at_work.init_latent is CLEAN
    assert len(told) == 1


def test_both_are_as_before_when_the_evaluation_fails(kept_region: ModuleType):
    at_work = denoiser(False, [])
    with (
        pytest.raises(ValueError, match="meanwhile"),
        kept_region.at_the_source_s_level(at_work, OWN, SOURCE, in_timesteps=True),
    ):
        raise ValueError("meanwhile")
    assert at_work.mask is KEPT
    assert at_work.init_latent is CLEAN


def test_samplers_with_sigmas_keep_their_own_way(kept_region: ModuleType):
    at_work = denoiser(False, [])
    with kept_region.at_the_source_s_level(at_work, OWN, SOURCE, in_timesteps=False) as x:
        assert x is OWN
        assert at_work.init_latent is CLEAN
        assert at_work.mask is KEPT
