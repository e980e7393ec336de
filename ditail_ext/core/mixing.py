"""A target between two checkpoints: W' = (1 - gamma) * W + gamma * Q, in place for a while.

The overview figure of the paper (arXiv 2312.08873) has such targets between two checkpoints of one architecture. Here
no third checkpoint is made: the loaded weights W are replaced one by one, and put back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, SettingsError


def interpolate(own: Tensor, other: Tensor, gamma: float) -> Tensor:
    """(1 - gamma) * own + gamma * other, computed in float32 (float64 if either is), in ``own``'s type and place.

    At 0 and 1 it is one of the two, bit for bit, whatever values they hold. A type of 8 bits is reached by way of
    half precision, as hosts do when they load a checkpoint.

    Args:
        own: any shape and floating type.
        other: of the same shape, of any floating type, on any device.
        gamma: from 0 to 1.
    """
    if gamma == 0.0:
        return own.clone()
    exact = torch.float64 if torch.float64 in (own.dtype, other.dtype) else torch.float32
    mixed = other.to(own.device, exact)
    if gamma < 1.0:
        mixed = torch.lerp(own.to(exact), mixed, gamma)
    if own.dtype.itemsize == 1:
        mixed = mixed.half()
    return mixed.to(own.dtype)


def check_fit(shapes: Mapping[str, tuple[int, ...]], module: nn.Module, name: str) -> None:
    """Check that another checkpoint's weights fit a module one to one.

    Args:
        shapes: of the other's weights, by their names in the module.
        module: whose weights are to be mixed with them.
        name: of the other checkpoint, for the message.

    Raises:
        CheckpointError: a name is on one side only, or a shape differs.
    """
    own = {key: tuple(parameter.shape) for key, parameter in module.named_parameters()}
    different = sorted(key for key in own.keys() | shapes.keys() if own.get(key) != shapes.get(key))
    if different:
        raise _misfit(name, different[0])


def _misfit(name: str, key: str) -> CheckpointError:
    return CheckpointError(
        f"mix_checkpoint: '{name}' has another architecture than the target (its UNet's {key} does not fit); choose a "
        "checkpoint of the target's kind to mix with."
    )


@contextmanager
def mixed_weights(module: nn.Module, other: Mapping[str, Tensor], gamma: float, *, name: str) -> Iterator[None]:
    """A context in which a module's parameters are mixed with another checkpoint's.

    One copy of the original parameters is kept, on the CPU; the other's are asked for one at a time. Whoever moves the
    module to another device meanwhile, or replaces a parameter, does no harm; one that was moved to ``meta``, which
    is how a host throws a model away, is left there.

    Args:
        module: the target's UNet.
        other: the other checkpoint's weights by their names in the module; may read each when it is asked for.
        gamma: the other's share, from 0 to 1; at 0 nothing is read or written.
        name: of the other checkpoint, for messages.

    Raises:
        SettingsError: ``gamma`` lies outside of 0..1.
        CheckpointError: the other's weights do not fit; nothing stays changed.
    """
    if not 0.0 <= gamma <= 1.0:
        raise SettingsError("mix_weight", f"mix_weight must be from 0 to 1, not {gamma!r}.")
    if gamma == 0.0:
        yield
        return
    originals: dict[tuple[nn.Module, str], Tensor] = {}
    try:
        for path, owner, key in _places(module):
            _mix_one(owner, key, other, path, gamma, originals, name)
        yield
    finally:
        with ExitStack() as undo:  # each is put back, whatever becomes of another
            for (owner, key), original in originals.items():
                undo.callback(_put_back, owner, key, original)


def _places(module: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """Full name, owning module and own name of each parameter; a shared one once."""
    owners = dict(module.named_modules())
    split = [(path, *path.rpartition(".")[::2]) for path, _ in module.named_parameters()]
    return [(path, owners[parent], key) for path, parent, key in split]


@torch.no_grad()
def _mix_one(
    owner: nn.Module,
    key: str,
    other: Mapping[str, Tensor],
    path: str,
    gamma: float,
    originals: dict[tuple[nn.Module, str], Tensor],
    name: str,
) -> None:
    parameter = owner.get_parameter(key)
    found = other.get(path)
    if found is None or found.shape != parameter.shape:
        raise _misfit(name, path)
    originals[owner, key] = parameter.detach().to("cpu", copy=True)
    parameter.copy_(interpolate(parameter.detach(), found, gamma))


@torch.no_grad()
def _put_back(owner: nn.Module, key: str, original: Tensor) -> None:
    parameter = owner._parameters.get(key)
    if parameter is not None and not parameter.is_meta:
        parameter.copy_(original)
