"""A UNet between two: its ends are exact, and it is gone without a trace."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ditail_ext.core import check_fit, interpolate, mixed_weights, mixing
from ditail_ext.errors import CheckpointError, SettingsError

GAMMAS = [0.0, 0.25, 0.5, 0.75, 1.0]
TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}


def equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == expected[name].dtype and same_bits(found[name], expected[name]) for name in expected
    )


def same_bits(found: Tensor, expected: Tensor) -> bool:
    return torch.equal(found.contiguous().view(torch.uint8), expected.contiguous().view(torch.uint8))


@pytest.fixture
def unet(unets: SimpleNamespace) -> nn.Module:
    return copy.deepcopy(unets.target)


@pytest.fixture
def other(unets: SimpleNamespace) -> dict[str, Tensor]:
    return weights(unets.source)


def mix_of(unet: nn.Module, other: Mapping[str, Tensor], gamma: float) -> dict[str, Tensor]:
    with mixed_weights(unet, other, gamma, name="Q"):
        return weights(unet)


@pytest.mark.parametrize("own", TYPES)
@pytest.mark.parametrize("others", TYPES[:4])
def test_the_ends_are_exact_in_every_type(own: torch.dtype, others: torch.dtype):
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(64, generator=generator, dtype=torch.float64).to(own)
    q = torch.randn(64, generator=generator, dtype=torch.float64).to(others)
    loaded = q.half().to(own) if own.itemsize == 1 else q.to(own)  # as a host would load it
    assert same_bits(interpolate(w, q, 0.0), w)
    assert same_bits(interpolate(w, q, 1.0), loaded)
    assert interpolate(w, q, 0.3).dtype == own


def test_the_ends_are_exact_whatever_the_other_holds():
    numbers, broken = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([torch.inf, torch.nan, -torch.inf])
    assert same_bits(interpolate(numbers, broken, 0.0), numbers)
    assert same_bits(interpolate(broken, numbers, 1.0), numbers)


@given(st.floats(-1e3, 1e3, width=32), st.floats(-1e3, 1e3, width=32), st.floats(0, 1))
def test_between_the_ends_it_is_the_paper_s_sum(w: float, q: float, gamma: float):
    found = float(interpolate(torch.tensor([w]), torch.tensor([q]), gamma))
    assert found == pytest.approx((1 - gamma) * w + gamma * q, abs=2e-4)
    mirrored = float(interpolate(torch.tensor([q]), torch.tensor([w]), 1 - gamma))
    assert mirrored == pytest.approx(found, abs=2e-4)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_a_tensor_mixed_with_itself_is_itself(gamma: float):
    w = torch.randn(64, generator=torch.Generator().manual_seed(1)).half()
    assert same_bits(interpolate(w, w, gamma), w)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_a_unet_is_mixed_and_comes_back(unet: nn.Module, other: dict[str, Tensor], gamma: float):
    own = weights(unet)
    parameters = [id(parameter) for parameter in unet.parameters()]
    mixed = mix_of(unet, other, gamma)
    if gamma in (0.0, 1.0):
        assert equal(mixed, other if gamma else own)
    else:
        assert all(torch.allclose(mixed[name], (1 - gamma) * own[name] + gamma * other[name]) for name in own)
        assert not any(same_bits(mixed[name], own[name]) for name in own if not same_bits(own[name], other[name]))
    assert equal(weights(unet), own)
    assert [id(parameter) for parameter in unet.parameters()] == parameters


def test_nothing_is_read_for_nothing(unet: nn.Module):
    assert equal(mix_of(unet, {}, 0.0), weights(unet))


def test_it_comes_back_after_an_exception_within(unet: nn.Module, other: dict[str, Tensor]):
    own = weights(unet)
    with pytest.raises(RuntimeError, match="within"), mixed_weights(unet, other, 0.4, name="Q"):
        raise RuntimeError("within")
    assert equal(weights(unet), own)


class Fragile(Mapping[str, Tensor]):
    """Weights whose file breaks in the middle."""

    def __init__(self, tensors: Mapping[str, Tensor], after: int) -> None:
        self.tensors, self.left = tensors, after

    def __getitem__(self, name: str) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise OSError("broken")
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


@pytest.mark.parametrize("after", [0, 1, 40])
def test_it_comes_back_where_reading_breaks_off(unet: nn.Module, other: dict[str, Tensor], after: int):
    own = weights(unet)
    with pytest.raises(OSError, match="broken"), mixed_weights(unet, Fragile(other, after), 0.4, name="Q"):
        pytest.fail("must not come here")
    assert equal(weights(unet), own)


def test_where_one_cannot_be_put_back_the_others_are(
    unet: nn.Module, other: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
):
    own, put_back, failed = weights(unet), mixing._put_back, []

    def put_all_but_one_back(owner: nn.Module, key: str, original: Tensor) -> None:
        if not failed:
            failed.append(key)
            raise RuntimeError("no memory")
        put_back(owner, key, original)

    monkeypatch.setattr(mixing, "_put_back", put_all_but_one_back)
    with pytest.raises(RuntimeError, match="no memory"), mixed_weights(unet, other, 0.4, name="Q"):
        pass
    assert sum(not value.equal(own[name]) for name, value in weights(unet).items()) == 1


def test_half_precision_comes_back_bit_for_bit(unet: nn.Module, other: dict[str, Tensor]):
    own = weights(unet.half())
    mixed = mix_of(unet, other, 1.0)
    assert equal(mixed, {name: value.half() for name, value in other.items()})
    assert equal(weights(unet), own)


def test_parameters_replaced_or_removed_meanwhile(unet: nn.Module, other: dict[str, Tensor]):
    own = weights(unet)
    layer = unet.get_submodule("out.2")
    with mixed_weights(unet, other, 0.5, name="Q"):
        layer.weight = nn.Parameter(torch.zeros_like(layer.weight))
        layer.bias = None
    assert torch.equal(layer.weight, own["out.2.weight"])
    assert layer.bias is None


def test_a_module_that_was_thrown_away_stays_away(unet: nn.Module, other: dict[str, Tensor]):
    with mixed_weights(unet, other, 0.5, name="Q"):
        unet.to("meta")
    assert all(parameter.is_meta for parameter in unet.parameters())


def test_what_does_not_fit_is_refused_by_name(unet: nn.Module, other: dict[str, Tensor]):
    own = weights(unet)
    missing = {name: value for name, value in other.items() if name != "out.2.weight"}
    reshaped = {**other, "out.2.weight": other["out.2.weight"][:1]}
    further = {**other, "label_emb.0.0.weight": torch.zeros(1)}
    for wrong, key in ((missing, "out.2.weight"), (reshaped, "out.2.weight"), (further, "label_emb.0.0.weight")):
        with pytest.raises(CheckpointError, match=f"'photo.ckpt' has another architecture .*{key}") as caught:
            check_fit(shapes(wrong), unet, "photo.ckpt")
        assert str(caught.value).count(".ckpt") == 1
    for wrong in (missing, reshaped):
        with pytest.raises(CheckpointError, match="'Q' has another architecture"):
            mix_of(unet, wrong, 0.5)
        assert equal(weights(unet), own)
    check_fit(shapes(other), unet, "photo.ckpt")


@pytest.mark.parametrize("gamma", [-0.01, 1.01, float("nan")])
def test_the_share_lies_between_0_and_1(unet: nn.Module, other: dict[str, Tensor], gamma: float):
    with pytest.raises(SettingsError, match="mix_weight"):
        mix_of(unet, other, gamma)
