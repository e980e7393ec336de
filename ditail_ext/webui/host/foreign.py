"""Every way in which another extension changes what a UNet computes: found, put aside, put back exactly.

The source's run and the record pass are to compute what the model would alone. The host's own changes stay, and those
of the extensions that come with it, but for Hypertile's: its LoRAs and attention optimisations are patches of classes,
and under ``--medvram`` its hooks move the layers about.

Known ways, and who uses them (read in their sources): a UNet's own ``forward`` (ControlNet), a layer's (NegPiP,
Regional Prompter, IP-Adapter), a block's ``_forward`` (ControlNet's reference types), forward hooks (Incantations),
the model's ``apply_model`` (Tiled Diffusion), functions of what the host gives UNets for ``torch`` (FreeU), and the
``forward`` of a layer's class (Regional Prompter's latent mode), whose original only those know who looked before.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from modules import paths_internal, sd_hijack_unet
from torch import nn

from . import hypertile, kinds
from .reference import Reference

_FORWARDS = ("forward", "_forward")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_OURS, _THE_HOST_S = "ditail_ext", ("modules", "torch", "backend")
"""Top-level packages whose hooks stay; the host's only where no extension's function is inside."""


_ORIGINALS: weakref.WeakKeyDictionary[type, dict[str, Callable[..., Any]]] = weakref.WeakKeyDictionary()
"""What the classes of layers had before an extension replaced it, as last seen."""


def remember_classes(model: Any) -> None:
    """Look at the classes of a model's layers; to be called when nobody is in the middle of a request."""
    unet = kinds.of(model).unet(model)
    if unet is None:  # a model, or a host, that will be refused
        return
    for owner, name in _class_forwards(unet):
        if not _is_of_an_extension(vars(owner)[name]):
            _ORIGINALS.setdefault(owner, {})[name] = vars(owner)[name]


@contextmanager
def set_aside(model: Any) -> Iterator[None]:
    """A context in which a model of the host computes as if there were no other extensions.

    Args:
        model: the host's, loaded or not.
    """
    with ExitStack() as undo:
        for module in _unet_of(model).modules():
            for name in _FORWARDS:
                if _is_foreign_forward(module, name):
                    undo.enter_context(_without(vars(module), name))
            for name in _HOOKS:
                hooks = vars(module).get(name)
                if hooks and any(_is_foreign(hook) for hook in hooks.values()):
                    undo.enter_context(_only_known(hooks))
        for owner, name in _class_forwards(_unet_of(model)):
            original = _ORIGINALS.get(owner, {}).get(name)
            if original is not None and _is_of_an_extension(vars(owner)[name]):
                undo.callback(setattr, owner, name, vars(owner)[name])
                setattr(owner, name, original)
        if "apply_model" in vars(model):
            undo.enter_context(_without(vars(model), "apply_model"))
        for name in _replaced_functions():
            undo.enter_context(_without(vars(sd_hijack_unet.th), name))
        undo.enter_context(hypertile.put_aside(_unet_of(model)))
        yield


def is_touched(unet: nn.Module) -> bool:
    """Whether another extension watches or replaces layers of a UNet, so that none may be left out of it."""
    return any(
        any(_is_foreign_forward(module, name) for name in _FORWARDS)
        or any(_is_foreign(hook) for kind in _HOOKS for hook in (vars(module).get(kind) or {}).values())
        for module in unet.modules()
    )


def classes_are_replaced(unet: nn.Module) -> bool:
    """Whether an extension has replaced the ``forward`` of a layer's class.

    Then what was there before may be unknown; and who does that (Regional Prompter) changes the strengths of LoRAs
    from one call to the next, too.
    """
    return any(_is_of_an_extension(vars(owner)[name]) for owner, name in _class_forwards(unet))


def tiles(model: Any, sampler: Any) -> str | None:
    """Who cuts the picture into tiles before the UNet sees it, by the name of the extension; ``None`` for nobody.

    Args:
        model: the target.
        sampler: as the host has made it for the request.
    """
    for owner, name in ((model, "apply_model"), (sampler.model_wrap_cfg.inner_model, "forward")):
        if _is_replaced(owner, name):
            return name_of(vars(owner)[name])
    return None


def self_attention(unet: nn.Module) -> str | None:
    """Who has replaced the block around a self-attention, by the name of the extension; ``None`` for nobody.

    Such a block may run its attention several times, or on other pictures' tokens: nobody could say what of it is
    the source's, but for those that are known (see :func:`reference`).
    """
    unknown = (function for function in _around_self_attention(unet) if Reference.of(function) is None)
    return next(map(name_of, unknown), None)


def reference(unet: nn.Module) -> Reference | None:
    """ControlNet's reference types at work in a UNet; ``None`` if they are not."""
    known = filter(None, map(Reference.of, _around_self_attention(unet)))
    return next(known, None)


def _around_self_attention(unet: nn.Module) -> Iterator[Callable[..., Any]]:
    """What others have put in the place of a self-attention, and of the block around one."""
    for block in unet.modules():
        attention = getattr(block, "attn1", None)
        for owner in (block, attention) if isinstance(attention, nn.Module) else ():
            for name in _FORWARDS:
                if _is_foreign_forward(owner, name):
                    yield vars(owner)[name]


def extension_of(function: Any) -> str | None:
    """The folder of the extension that a function comes from; ``None`` for the host's own, and for none."""
    return _extension_of(function)[1] if function is not None and _is_of_an_extension(function) else None


def name_of(function: Any) -> str:
    """The folder of the extension that a function comes from, or the module where it comes from elsewhere."""
    _, name = _extension_of(function)
    function = _inner(function)
    return name or str(getattr(function, "__module__", None) or type(function).__name__)


def _unet_of(model: Any) -> nn.Module:
    unet = kinds.of(model).unet(model)
    assert unet is not None, "refused before"
    return unet


def _class_forwards(unet: nn.Module) -> list[tuple[type, str]]:
    """Where the classes of a UNet's layers, and those that they derive from, define a ``forward``."""
    owners = {owner for kind in {type(module) for module in unet.modules()} for owner in kind.__mro__}
    return [(owner, name) for owner in owners for name in _FORWARDS if name in vars(owner) and owner is not nn.Module]


def _inner(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__func__", function)


def _is_foreign(hook: Any) -> bool:
    top = str(getattr(_inner(hook), "__module__", "")).partition(".")[0]
    if top == _OURS:
        return False
    return _is_of_an_extension(hook) or (top not in _THE_HOST_S and not _is_built_in(hook))


def _is_of_an_extension(function: Any) -> bool:
    """Whether a function is of an extension that somebody has installed."""
    return _extension_of(function)[0] == paths_internal.extensions_dir


def _is_built_in(function: Any) -> bool:
    """Whether a function is of an extension that comes with the host (Hypertile leaves wrappers when it is off)."""
    return _extension_of(function)[0] == paths_internal.extensions_builtin_dir


def _extension_of(function: Any) -> tuple[str, str]:
    """The folder of extensions that a function comes from and the extension's own in it; two empty ones for neither.

    What a function wraps counts, too: around Tiled Diffusion's lies ``torch.no_grad``'s, whose code is torch's.
    """
    while function is not None:
        function = _inner(function)
        code = getattr(function, "__code__", None) or getattr(vars(type(function)).get("__call__"), "__code__", None)
        file = Path(code.co_filename) if code is not None else Path()
        for folder in (paths_internal.extensions_dir, paths_internal.extensions_builtin_dir):
            if file.is_relative_to(folder):
                return folder, file.relative_to(folder).parts[0]
        function = getattr(function, "__wrapped__", None)
    return "", ""


def _is_replaced(owner: Any, name: str) -> bool:
    """Whether an instance has a method that is not its class's own, bound.

    That is how some put back what they had replaced: ControlNet every ``forward``, Tiled Diffusion ``apply_model``.
    """
    own = vars(owner).get(name)
    return own is not None and _inner(own) is not getattr(type(owner), name, None)


def _is_foreign_forward(module: nn.Module, name: str) -> bool:
    """Whether an instance has a ``forward`` of another extension's."""
    return _is_replaced(module, name) and not _is_built_in(vars(module)[name])


def _replaced_functions() -> list[str]:
    """Names in the host's stand-in for ``torch`` that are set on the instance: the host has them on the class."""
    return list(vars(sd_hijack_unet.th)) if hasattr(sd_hijack_unet, "th") else []  # Forge has none


@contextmanager
def _without(namespace: dict[str, Any], name: str) -> Iterator[None]:
    value = namespace.pop(name)
    try:
        yield
    finally:
        namespace[name] = value


@contextmanager
def _only_known(hooks: dict[Any, Callable[..., Any]]) -> Iterator[None]:
    """Take the foreign ones out of a module's dictionary of hooks, which torch holds on to, and restore its order."""
    before = dict(hooks)
    for key, hook in before.items():
        if _is_foreign(hook):
            del hooks[key]
    try:
        yield
    finally:
        since = {key: hook for key, hook in hooks.items() if key not in before}
        gone = {key for key, hook in before.items() if not _is_foreign(hook) and key not in hooks}
        hooks.clear()
        hooks.update({key: hook for key, hook in before.items() if key not in gone} | since)
