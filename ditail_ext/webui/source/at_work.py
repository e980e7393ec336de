"""The source at work: its checkpoint loaded, and nothing of the target's or of the request's in its way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from modules import devices, sd_vae, shared
from torch import Tensor

from ...errors import CheckpointError
from ..cache import identity
from ..cache.memory import features
from ..host import foreign, kinds, networks
from ..host.checkpoints import require_vae
from ..host.other_vae import another_vae, resolved_vae
from ..host.progress import SourceProgress
from ..host.vae_tiles import tiled_as, tiles_of
from ..timing import Part, TimeSplit
from .models import give_back, take


@dataclass(frozen=True)
class Source:
    """Who inverts or generates: a checkpoint of the host, and the file of a VAE, or ``None`` for the one resolved."""

    info: Any
    vae: str | None

    @property
    def is_target(self) -> bool:
        """Whether the loaded target is its own source; files are compared, for the host lists the same one anew."""
        file: str = self.info.filename
        return file == shared.sd_model.sd_checkpoint_info.filename

    def identity(self) -> list[Any]:
        """What its checkpoint is: what was loaded, for the target; else what the host would load."""
        return identity.of_model(shared.sd_model) if self.is_target else identity.of_checkpoint(self.info)


@contextmanager
def at_work(
    source: Source, vae: str | None, progress: SourceProgress, times: TimeSplit, *, needs_vae: bool = True
) -> Iterator[Any]:
    """A context in which the source computes as it would alone; yields its model, the loaded one for the host now.

    Without gradients, autocast, networks and what other extensions change; the random numbers of the
    generation are afterwards what they were, since loading a model draws some. The target stays where it is.

    Args:
        source: who works.
        vae: the file of the VAE that it needs; ``None`` for the one that the host resolves.
        progress: begun here and ended, whatever happens.
        times: takes the seconds of loads and moves.
        needs_vae: it encodes or decodes.

    Raises:
        InversionStopped: Interrupt or Skip was pressed before.
        CheckpointError: the source or its VAE cannot be loaded.
    """
    target = shared.sd_model
    gpus = [devices.device] if devices.device.type == "cuda" else []
    if gpus:
        features.make_room()  # the source needs it more
    try:
        progress.begin()
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=gpus))
            stack.enter_context(torch.no_grad())
            stack.enter_context(_no_autocast())
            stack.enter_context(networks.none_active())
            model = stack.enter_context(_model_of(source, times, needs_vae=needs_vae))
            stack.enter_context(another_vae(model, vae))
            stack.enter_context(tiled_as(target, model))
            stack.enter_context(foreign.set_aside(model))
            yield model
    finally:
        progress.end()


@contextmanager
def _model_of(source: Source, times: TimeSplit, *, needs_vae: bool) -> Iterator[Any]:
    """The source's model: the target itself, one that waits in the cache, or one that is loaded now."""
    if source.is_target:
        yield shared.sd_model  # the host has its averaged weights, if any, in place by now
        return
    second = take(source.info, times)
    try:
        if needs_vae:
            require_vae(source.info, source.vae, has_vae=second.has_vae)
        with ExitStack() as stack:
            with times.part(Part.MOVE):
                model = stack.enter_context(second.at_work())
            stack.enter_context(kinds.of(model).averaged(model))
            stack.enter_context(kinds.of(model).without_networks(model))  # it may have been a target that had some
            yield model
    finally:
        give_back(second)


def _no_autocast() -> AbstractContextManager[Any]:
    """Autocast is on already where the host prepares a request; the source's parts switch it on where they want it."""
    stack = ExitStack()
    if torch.is_autocast_enabled():
        stack.enter_context(torch.autocast("cuda", enabled=False))
    if torch.is_autocast_cpu_enabled():
        stack.enter_context(torch.autocast("cpu", enabled=False))
    return stack


def require_numbers(source: Source, *computed: Tensor) -> None:
    """See that what the source computed is finite, before anybody uses or keeps it.

    Raises:
        CheckpointError: it is not.
    """
    if all(bool(tensor.isfinite().all()) for tensor in computed):
        return
    if devices.dtype_unet == torch.float32:
        what = "even in single precision, so its file is damaged; download it again, or choose another."
    else:
        what = (
            "in half precision; start the WebUI with --no-half (for SD2.x the option 'Upcast cross attention layer to "
            "float32' may do), or choose another."
        )
    raise CheckpointError(f"source_checkpoint: '{source.info.title}' computed something that is not a number {what}")


def vae_facts(file: str | None, part: str) -> Any:
    """What a VAE's work depends on: its file, and the tiles in which the target's works."""
    known, tiles = identity.of_file(file), tiles_of(shared.sd_model, part)
    return known if tiles is None else [known, tiles]


def vae_of(info: Any) -> str | None:
    """The file of the VAE that the host resolves for a checkpoint; ``None`` for the checkpoint's own."""
    if shared.sd_model.sd_checkpoint_info.filename == info.filename:
        file: str | None = sd_vae.loaded_vae_file
    else:
        file = resolved_vae(info)
    return file if file is not None and Path(file).is_file() else None
