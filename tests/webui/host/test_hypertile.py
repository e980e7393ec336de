"""The host's Hypertile: how it cuts a layer's tokens is known while the layer is at work, and it can be put aside."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

HEIGHT, WIDTH = 8, 16
SITE = "block.attn1.to_q"


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_q(x)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.other = nn.Module(), nn.Module()
        self.block.attn1, self.other.attn1 = Attention(), Attention()


class Parameters:
    enabled = False


def make_module(drawn: Iterator[int]) -> ModuleType:
    """As the host's: each layer draws rows and columns through the module's function."""
    module = ModuleType("hypertile")
    module.random_divisor = lambda value, least, /, max_options=1: next(drawn)  # type: ignore[attr-defined]
    return module


def wrap(module: ModuleType, layer: nn.Module) -> Parameters:
    parameters, own = Parameters(), layer.forward

    def forward(x: Tensor) -> Tensor:
        if not parameters.enabled:
            return own(x)
        down, across = (module.random_divisor(side, 4, max_options=3) for side in (HEIGHT, WIDTH))
        size = {"nh": down, "nw": across, "h": HEIGHT // down, "w": WIDTH // across}
        tiled = own(rearrange(x, "b (nh h nw w) c -> (b nh nw) (h w) c", **size))
        return rearrange(tiled, "(b nh nw) (h w) c -> b (nh h nw w) c", **size)

    vars(layer)["forward"] = forward
    vars(layer)["__webui_hypertile_params"] = parameters
    return parameters


@pytest.fixture
def hypertile(host: SimpleNamespace) -> SimpleNamespace:
    return host.load("host.hypertile")


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> tuple[UNet, Parameters]:
    """A layer that is cut into 2 x 4, then into 4 x 1, then not at all."""
    module = make_module(iter([2, 4, 4, 1, 1, 1]))
    monkeypatch.setitem(sys.modules, "hypertile", module)
    unet = UNet()
    parameters = wrap(module, unet.block.attn1)
    parameters.enabled = True
    return unet, parameters


def test_what_is_drawn_is_known_while_the_layer_computes(hypertile: SimpleNamespace, tiled: tuple[UNet, Parameters]):
    unet, _ = tiled
    draw = sys.modules["hypertile"].random_divisor
    x, found = torch.randn(2, HEIGHT * WIDTH, 4), []
    expected = unet.block.attn1.to_q(x)
    with hypertile.noted(unet) as tiles:

        def note(_module: nn.Module, _args: object, output: Tensor) -> None:
            now = tiles(SITE)
            found.append(
                (None if now is None else (now.down, now.across), output if now is None else now.whole(output))
            )

        unet.block.attn1.to_q.register_forward_hook(note)
        for _ in range(3):
            assert torch.allclose(unet.block.attn1.forward(x), expected)
        assert tiles("other.attn1.to_q") is None
    assert [cut for cut, _ in found] == [(2, 4), (4, 1), None]
    assert all(torch.allclose(whole, expected) for _, whole in found)
    assert sys.modules["hypertile"].random_divisor is draw


def test_layers_that_it_leaves_alone_are_whole(hypertile: SimpleNamespace, tiled: tuple[UNet, Parameters]):
    unet, parameters = tiled
    parameters.enabled = False  # its depth is less than the layer's
    with hypertile.noted(unet) as tiles:
        assert tiles(SITE) is None


def test_it_is_put_aside_and_back(hypertile: SimpleNamespace, tiled: tuple[UNet, Parameters]):
    unet, parameters = tiled
    with contextlib.suppress(ZeroDivisionError), hypertile.put_aside(unet):
        assert not parameters.enabled
        raise ZeroDivisionError
    assert parameters.enabled
    parameters.enabled = False
    with hypertile.put_aside(unet):
        assert not parameters.enabled
    assert not parameters.enabled


def test_another_one_is_not_known(hypertile: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "hypertile", raising=False)
    assert not hypertile.is_known()
    monkeypatch.setitem(sys.modules, "hypertile", ModuleType("hypertile"))
    assert not hypertile.is_known()
    monkeypatch.setitem(sys.modules, "hypertile", make_module(iter(())))
    assert hypertile.is_known()
