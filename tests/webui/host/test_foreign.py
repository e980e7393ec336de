"""Whatever way another extension takes into the UNet, it is found, put aside and put back exactly."""

from __future__ import annotations

import functools
import types
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.to_q(x)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn1, self.attn2 = Attention(), Attention()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(x)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attn2(self.attn1(x))


class UNet(nn.Module):
    def __init__(self, th: Any) -> None:
        super().__init__()
        self.block, self.th = Block(), (th,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.th[0].cat([self.block(x), x])


class Th:
    def cat(self, tensors: Any) -> torch.Tensor:
        return torch.cat(tensors)


class Model:
    def __init__(self, th: Any) -> None:
        torch.manual_seed(0)
        self.model = SimpleNamespace(diffusion_model=UNet(th))

    def apply_model(self, x: torch.Tensor) -> torch.Tensor:
        return self.model.diffusion_model(x)


def written_in(file: str, value: float = 1.0) -> Callable[..., Any]:
    """A function of an extension's, that adds a number to what the function it wraps gives."""

    def changed(*args: Any, original: Any = None, value: float = 0.0, **kwargs: Any) -> Any:
        return (original(*args, **kwargs) if original else args[-1]) + value

    changed.__code__ = changed.__code__.replace(co_filename=file)
    changed.__module__ = "something_of_theirs"
    return functools.partial(changed, value=value)


EXTENSION = "/webui/extensions/their-extension/scripts/x.py"


def replace_forward(model: Model, path: str, name: str = "forward") -> None:
    module = model.model.diffusion_model.get_submodule(path)
    setattr(module, name, functools.partial(written_in(EXTENSION), original=getattr(module, name)))


def replace_apply_model(model: Model) -> None:
    model.apply_model = functools.partial(written_in(EXTENSION), original=model.apply_model)  # type: ignore[method-assign]


def replace_cat(model: Model) -> None:
    (th,) = model.model.diffusion_model.th
    th.cat = functools.partial(written_in(EXTENSION), original=th.cat)


def hook(model: Model) -> None:
    model.model.diffusion_model.block.attn1.to_q.register_forward_hook(written_in(EXTENSION))


def pre_hook(model: Model) -> None:
    model.model.diffusion_model.block.register_forward_pre_hook(lambda module, args: (args[0] + 1.0,))


WAYS: dict[str, Callable[[Model], None]] = {
    "UNet": lambda model: replace_forward(model, ""),
    "block": lambda model: replace_forward(model, "block", "_forward"),
    "cross-attention": lambda model: replace_forward(model, "block.attn2"),
    "projection": lambda model: replace_forward(model, "block.attn1.to_q"),
    "apply_model": replace_apply_model,
    "cat": replace_cat,
    "hook": hook,
    "pre-hook": pre_hook,
}


@pytest.fixture
def foreign(host: SimpleNamespace) -> SimpleNamespace:
    host.fake(sd_hijack_unet={"th": Th()})
    folders = {"extensions_dir": "/webui/extensions", "extensions_builtin_dir": "/webui/extensions-builtin"}
    vars(host.modules.paths_internal).update(folders)
    return SimpleNamespace(**vars(host.load("host.foreign")), model=Model(host.modules.sd_hijack_unet.th))


def marks(model: Model) -> list[Any]:
    """All that a way could change, identities and order included."""
    unet = model.model.diffusion_model
    found: list[Any] = [dict(vars(model)), dict(vars(unet.th[0]))]
    for module in unet.modules():
        kinds = (module._forward_hooks, module._forward_pre_hooks)
        own = {name: vars(module).get(name) for name in ("forward", "_forward")}
        found.append([own, *[(id(kind), list(kind.items())) for kind in kinds]])
    return found


X = torch.ones(1, 4)


@pytest.mark.parametrize("way", WAYS)
def test_each_way(foreign: SimpleNamespace, way: str):
    model = foreign.model
    alone = model.apply_model(X)
    WAYS[way](model)
    changed, before = model.apply_model(X), marks(model)
    assert not torch.equal(changed, alone)
    with foreign.set_aside(model):
        assert torch.equal(model.apply_model(X), alone)
    assert marks(model) == before
    assert torch.equal(model.apply_model(X), changed)
    with pytest.raises(ZeroDivisionError), foreign.set_aside(model):
        raise ZeroDivisionError
    assert marks(model) == before


def test_all_ways_at_once(foreign: SimpleNamespace):
    model = foreign.model
    alone = model.apply_model(X)
    for way in WAYS.values():
        way(model)
    before = marks(model)
    with foreign.set_aside(model):
        assert torch.equal(model.apply_model(X), alone)
    assert marks(model) == before


@pytest.mark.parametrize("way", WAYS)
def test_what_touches_the_layers_is_said(foreign: SimpleNamespace, way: str):
    unet = foreign.model.model.diffusion_model
    assert not foreign.is_touched(unet)
    WAYS[way](foreign.model)
    assert foreign.is_touched(unet) is (way not in ("apply_model", "cat"))


def test_a_bound_forward_of_the_class_s_own_is_no_patch(foreign: SimpleNamespace):
    """ControlNet leaves such a one behind when it is done."""
    unet = foreign.model.model.diffusion_model
    unet.forward = types.MethodType(UNet.forward, unet)
    kept = unet.forward
    assert not foreign.is_touched(unet)
    with foreign.set_aside(foreign.model):
        assert vars(unet)["forward"] is kept


def test_what_comes_with_the_host_is_no_patch(foreign: SimpleNamespace):
    """Hypertile leaves its wrappers on the layers when it is switched off."""
    attention = foreign.model.model.diffusion_model.block.attn1
    wrapper = functools.partial(
        written_in("/webui/extensions-builtin/hypertile/hypertile.py"), original=attention.forward
    )
    attention.forward = wrapper
    assert foreign.self_attention(foreign.model.model.diffusion_model) is None
    assert not foreign.is_touched(foreign.model.model.diffusion_model)
    with foreign.set_aside(foreign.model):
        assert vars(attention)["forward"] is wrapper


def test_ours_and_the_host_s_hooks_stay_and_new_ones_too(foreign: SimpleNamespace):
    layer = foreign.model.model.diffusion_model.block.attn1.to_q
    called: list[str] = []
    handles = {}
    for name in ("ditail_ext.core.injection", "their.module", "modules.lowvram"):
        watch = lambda *_, name=name: called.append(name)  # noqa: E731
        watch.__module__ = name
        handles[name] = layer.register_forward_hook(watch)
    before = OrderedDict(layer._forward_hooks)
    with foreign.set_aside(foreign.model):
        late = layer.register_forward_hook(lambda *_: called.append("late"))
        foreign.model.apply_model(X)
        handles["ditail_ext.core.injection"].remove()
    assert called == ["ditail_ext.core.injection", "modules.lowvram", "late"]
    late.remove()
    assert list(layer._forward_hooks) == list(before)[1:]


def test_our_hooks_stay_where_we_are_installed_like_the_others(foreign: SimpleNamespace):
    layer = foreign.model.model.diffusion_model.block.attn1.to_q
    ours, theirs = (
        written_in(f"/webui/extensions/{name}/x.py").func for name in ("sd-webui-ditail", "their-extension")
    )
    ours.__module__, theirs.__module__ = "ditail_ext.core.recordings", "modules.wrapped"
    layer._forward_hooks.update({1: ours, 2: theirs})
    with foreign.set_aside(foreign.model):
        assert list(layer._forward_hooks.values()) == [ours]
    assert list(layer._forward_hooks.values()) == [ours, theirs]


def test_a_replaced_class_is_noticed(foreign: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    unet = foreign.model.model.diffusion_model
    assert not foreign.classes_are_replaced(unet)
    monkeypatch.setattr(nn.Linear, "forward", written_in(EXTENSION).func)
    assert foreign.classes_are_replaced(unet)


def test_a_replaced_class_is_put_aside_where_somebody_looked_before(
    foreign: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    model, own = foreign.model, nn.Linear.forward
    expected = model.apply_model(X)
    theirs = lambda layer, x: own(layer, x) + 1  # noqa: E731
    theirs.__code__ = theirs.__code__.replace(co_filename=EXTENSION)
    foreign.remember_classes(model)
    monkeypatch.setattr(nn.Linear, "forward", theirs)
    changed = model.apply_model(X)
    assert not torch.equal(changed, expected)
    foreign.remember_classes(model)  # what is there now is not the original
    with foreign.set_aside(model):
        assert torch.equal(model.apply_model(X), expected)
        assert nn.Linear.forward is own
    assert nn.Linear.forward is theirs
    assert torch.equal(model.apply_model(X), changed)


def test_who_it_is(foreign: SimpleNamespace):
    assert foreign.name_of(written_in(EXTENSION)) == "their-extension"
    assert foreign.name_of(written_in("/webui/extensions-builtin/Own/y.py")) == "Own"
    assert foreign.name_of(written_in("/elsewhere/z.py")) == "something_of_theirs"
    assert foreign.name_of(torch.no_grad()(written_in(EXTENSION).func)) == "their-extension", (
        "torch's code is around it"
    )


def test_tiles_and_self_attention_are_named(foreign: SimpleNamespace):
    model, unet, wrapped = foreign.model, foreign.model.model.diffusion_model, SimpleNamespace()
    sampler = SimpleNamespace(model_wrap_cfg=SimpleNamespace(inner_model=wrapped))
    assert foreign.tiles(model, sampler) is None
    wrapped.forward = written_in(EXTENSION)
    assert foreign.tiles(model, sampler) == "their-extension"
    del wrapped.forward
    replace_apply_model(model)
    assert foreign.tiles(model, sampler) == "their-extension"
    model.apply_model = types.MethodType(Model.apply_model, model)
    assert foreign.tiles(model, sampler) is None, "they have gone, and left the class's own, bound"
    assert foreign.self_attention(unet) is None
    replace_forward(model, "block.attn2")
    assert foreign.self_attention(unet) is None, "cross-attention is not what is injected"
    replace_forward(model, "block.attn1")
    assert foreign.self_attention(unet) == "their-extension"
