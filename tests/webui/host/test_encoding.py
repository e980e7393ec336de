"""Encoding a picture with a VAE that half precision is too small for, without a WebUI."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor, nn

from ditail_ext.errors import PictureError

OPTIONS = {"auto_vae_precision": True, "auto_vae_precision_bfloat16": False}


class DiagonalGaussianDistribution:
    def sample(self) -> Tensor:
        raise AssertionError("the posterior was sampled")

    def mode(self) -> Tensor:
        return torch.zeros(0)


class Vae(nn.Module):
    """Its numbers grow beyond half precision; a broken one has none in any."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(300.0))
        self.broken = broken

    def encode(self, picture: Tensor) -> Tensor:
        grown = (picture + 2) * self.weight * self.weight
        return grown / 0 * 0 if self.broken else grown / self.weight / self.weight


@pytest.fixture
def host_model(host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module under test against a host whose VAE is kept in half precision."""
    devices, distributions = MagicMock(), ModuleType("distributions")
    devices.dtype_vae = torch.float16
    devices.autocast = devices.without_autocast = nullcontext
    distributions.DiagonalGaussianDistribution = DiagonalGaussianDistribution
    others = {name: MagicMock() for name in ("prompt_parser", "sd_hijack", "sd_models")}
    for name, module in {"devices": devices, **others}.items():
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
        setattr(host.modules, name, module)
    for name in ("sgm", "sgm.modules", "sgm.modules.distributions"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "sgm.modules.distributions.distributions", distributions)
    host.modules.shared.device = torch.device("cpu")
    vars(host.modules.shared.opts).update(OPTIONS)
    return host.load("host.model")


def loaded(vae: Vae) -> SimpleNamespace:
    """A model of the host's, its VAE in half precision."""
    return SimpleNamespace(
        first_stage_model=vae.half(), encode_first_stage=vae.encode, get_first_stage_encoding=lambda latent: latent
    )


PICTURES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
EXPECTED = PICTURES * 2 + 1


@pytest.mark.parametrize(("bfloat", "tolerance"), [(False, 1e-5), (True, 0.05)])
def test_it_encodes_once_more_in_the_precision_of_the_hosts_option(
    host: SimpleNamespace, host_model: ModuleType, bfloat: bool, tolerance: float
):
    host.modules.shared.opts.auto_vae_precision_bfloat16 = bfloat
    vae = Vae()
    found = host_model.encode_picture(loaded(vae), PICTURES)
    assert found.dtype == torch.float32
    assert float((found - EXPECTED).abs().max()) < tolerance
    assert vae.weight.dtype == torch.float16, "the VAE is left as it was"


@pytest.mark.parametrize(("broken", "allowed"), [(False, False), (True, True)], ids=["option off", "never a number"])
def test_what_has_no_numbers_is_refused(host: SimpleNamespace, host_model: ModuleType, broken: bool, allowed: bool):
    host.modules.shared.opts.auto_vae_precision = allowed
    vae = Vae(broken)
    with pytest.raises(PictureError, match="--no-half-vae"):
        host_model.encode_picture(loaded(vae), PICTURES)
    assert vae.weight.dtype == torch.float16


def test_single_precision_is_not_tried_twice(host: SimpleNamespace, host_model: ModuleType):
    host.modules.devices.dtype_vae = torch.float32
    vae, calls = Vae(broken=True), []
    model = loaded(vae)
    model.encode_first_stage = lambda picture: calls.append(picture.dtype) or vae.encode(picture)
    with pytest.raises(PictureError):
        host_model.encode_picture(model, PICTURES)
    assert calls == [torch.float32] * 2


def test_the_vae_is_as_it_was_when_encoding_fails(host_model: ModuleType):
    vae = Vae()
    model = loaded(vae)

    def encode(picture: Tensor) -> Tensor:
        if picture.dtype != torch.float16:
            raise MemoryError
        return vae.encode(picture)

    model.encode_first_stage = encode
    with pytest.raises(MemoryError):
        host_model.encode_picture(model, PICTURES)
    assert vae.weight.dtype == torch.float16
    assert DiagonalGaussianDistribution.sample is not DiagonalGaussianDistribution.mode
