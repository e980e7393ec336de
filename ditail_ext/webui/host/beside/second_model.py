"""A second model beside the loaded one, made by the host's own loader.

The loaded target is never replaced: its object, weights, hooks, networks, VAE and options are what they were, whatever
becomes of the second model. Where both do not fit on the device, the target's weights wait in main memory meanwhile,
moved as the host moves a model, in the same object.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from modules import devices, lowvram, script_callbacks, sd_hijack, sd_models, sd_vae, shared

from ....core import free_bytes, is_out_of_memory
from ....errors import CheckpointError
from .. import kinds
from ..checkpoints import SOURCE, FileFacts, check_weights
from .allocator import give_back_freed
from .loaded import (
    LoadedState,
    among_ourselves,
    as_if_none_were_loaded,
    embeddings_of,
    looked_at,
    reload_embeddings_for,
)
from .unloadable import unloadable

logger = logging.getLogger("ditail")
WORKING_BYTES = 3 * 2**29
"""What a device needs beside two models for one of them to compute."""


class SecondModel:
    """A model of the host that is not the loaded one.

    Attributes:
        info: the checkpoint's ``CheckpointInfo``.
        nbytes: memory that its weights take, in bytes.
        has_vae: whether it has a VAE of its own.
    """

    def __init__(self, info: Any, state: LoadedState, *, has_vae: bool = True) -> None:
        self.info = info
        self.has_vae = has_vae
        self.state = state
        self._stays = False
        parts = kinds.of(state.model).parts(state.model)
        weights = [one for part in parts for one in (*part.parameters(), *part.buffers())]
        self.nbytes = sum(one.numel() * one.element_size() for one in weights)

    @property
    def model(self) -> Any:
        """The host's object."""
        return self.state.model

    @contextmanager
    def at_work(self, *, stay: bool = False) -> Iterator[Any]:
        """A context in which the host takes this model, which it yields, for the loaded one.

        Args:
            stay: keep the weights on the device afterwards, where there is room for them beside the target's;
                :meth:`leave` ends that.
        """
        target = LoadedState.now()
        kind = kinds.of(self.model)
        tiles = kind.tiles(target.model)
        with ExitStack() as stack:
            waits = stack.enter_context(target_waiting(0 if self._stays else self.nbytes))
            self._stays = stay and not waits
            self.state.install()
            stack.callback(self._rest, target)
            self._move_to_device(stack, target.model)
            # What the options say of the noise schedule may have changed since the model was made.
            stack.enter_context(kind.schedule_of(None, self.model))
            kind.tile(self.model, tiles)
            stack.enter_context(embeddings_of(self.model))
            yield self.model

    def _move_to_device(self, stack: ExitStack, target: Any) -> None:
        """Move there, if need be in the target's place."""
        try:
            sd_models.send_model_to_device(self.model)
            return
        except RuntimeError as error:
            if not is_out_of_memory(error) or devices.device.type == "cpu":
                raise
        sd_models.send_model_to_cpu(self.model)
        self._stays = False
        stack.enter_context(target_waiting(self.nbytes, always=True, target=target))
        stack.callback(sd_models.send_model_to_cpu, self.model)  # before the target comes back
        sd_models.send_model_to_device(self.model)

    def _rest(self, target: LoadedState) -> None:
        """Leave the host's variables to the target, and the device unless it may stay there."""
        try:
            kinds.of(self.model).tile(self.model, False)
            self.state = LoadedState.now()
        finally:
            target.install()
        if not self._stays:
            self._leave_device()

    def leave(self) -> None:
        """Wait in main memory from now on."""
        if self._stays:
            self._stays = False
            self._leave_device()

    def _leave_device(self) -> None:
        if devices.device.type != "cpu":
            sd_models.send_model_to_cpu(self.model)

    def release(self) -> None:
        """Give the weights' memory back; the host's way with a model that it throws away, and the system's."""
        kinds.of(self.model).release(self.model)
        give_back_freed()


def load_beside(info: Any, argument: str = SOURCE) -> SecondModel:
    """Build a second model from a checkpoint's file.

    Args:
        info: the host's ``CheckpointInfo``.
        argument: where the checkpoint was given, for the message.

    Raises:
        CheckpointError: the host cannot make a model of it; nothing of the loaded one has changed.
        torch.cuda.OutOfMemoryError: not even with the target in main memory is there room for it.
    """
    size = Path(info.filename).stat().st_size if Path(info.filename).is_file() else 0
    with target_waiting(size) as waits:
        try:
            try:
                second = _built(info, argument)
                if waits:
                    sd_models.send_model_to_cpu(second.model)
                return second
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                logger.info("There is no room for a second model; the target's weights wait in main memory")
            # Outside of the handler, whose traceback would hold on to what was built of the model.
            with target_waiting(size, always=True):
                second = _built(info, argument)
                sd_models.send_model_to_cpu(second.model)
                return second
        except Exception as error:
            if is_out_of_memory(error) or isinstance(error, CheckpointError):
                raise
            raise unloadable(info, error, argument) from error


def exchange(second: SecondModel) -> SecondModel:
    """Make a second model the loaded one, and the loaded one a second model; nothing is read from a file.

    Done as the host takes another of the models that it holds, with the callbacks of a loaded model.

    Raises:
        torch.cuda.OutOfMemoryError: the device has no room; the loaded one is what it was.
    """
    before, kind = LoadedState.now(), kinds.of(second.model)
    if kind.loads_alone:
        kind.make_loaded(second.model)
    else:
        _take(second, before)
    script_callbacks.model_loaded_callback(second.model)
    shared.opts.data["sd_checkpoint_hash"] = second.info.sha256
    return SecondModel(before.model.sd_checkpoint_info, before)


def _take(second: SecondModel, before: LoadedState) -> None:
    data = sd_models.model_data
    sd_hijack.model_hijack.apply_circular(False)  # it counts on one model only, and is asked for by each request anew
    held = list(data.loaded_sd_models)
    if devices.device.type != "cpu":
        sd_models.send_model_to_cpu(before.model)
    try:
        second.state.install()
        sd_models.send_model_to_device(second.model)
        data.loaded_sd_models[:] = [second.model if model is before.model else model for model in held]
        data.set_sd_model(second.model, already_loaded=True)
    except BaseException:
        before.install()
        data.loaded_sd_models[:] = held
        sd_models.send_model_to_device(before.model)
        raise
    sd_vae.reload_vae_weights(second.model)
    reload_embeddings_for(second.model)


def _built(info: Any, argument: str) -> SecondModel:
    """Look at the weights as soon as they are read: the host's loader puts zeros in the place of what is missing."""
    facts: list[FileFacts] = []

    def look(weights: Any) -> None:
        facts.append(check_weights(info, weights, argument))

    kind = kinds.of(sd_models.model_data.sd_model)
    if kind.loads_alone:
        state = LoadedState.now().with_model(kind.load(info, look))
    else:
        with as_if_none_were_loaded(), among_ourselves(), sd_models.SkipWritingToConfig(), looked_at(look):
            sd_models.load_model(info)
            state = LoadedState.now()
    return SecondModel(info, state, has_vae=all(fact.has_vae is not False for fact in facts))


@contextmanager
def target_waiting(needed: int, *, always: bool = False, target: Any = None) -> Iterator[bool]:
    """A context in which the target leaves its device if there is no room for so many bytes beside it.

    Args:
        needed: bytes of the second model.
        always: whatever is free.
        target: the host's loaded model unless given.

    Yields:
        Whether it has left.
    """
    target = target or sd_models.model_data.sd_model
    if target is None or devices.device.type == "cpu":
        yield False
        return
    if getattr(target, "lowvram", False):
        lowvram.send_everything_to_cpu()  # the host brings each part back when it is called
        yield False
        return
    if not always and _free() >= needed + WORKING_BYTES:
        yield False
        return
    sd_models.send_model_to_cpu(target)
    try:
        yield True
    finally:
        allowed = shared.parallel_processing_allowed
        sd_models.send_model_to_device(target)
        shared.parallel_processing_allowed = allowed


def _free() -> int:
    """Bytes free on the device; 0 where that cannot be known, and the target had better leave."""
    return free_bytes(devices.device) if devices.device.type == "cuda" else 0
