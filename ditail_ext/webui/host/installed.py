"""The checkpoints and VAEs that the host lists, found exactly.

The host's own look-up takes nearly any text for the name of some checkpoint, and another in place of one that it does
not find. Its lists are emptied and filled again wherever somebody refreshes them, while others read them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from modules import sd_models, sd_vae, shared

from ...errors import CheckpointError
from ...setting import shown
from ...settings import AUTOMATIC, SAME_AS_TARGET

Found = TypeVar("Found")

_STILL, _LIMIT = 0.25, 5.0
"""Seconds: a list that has not changed for the one is whole; none is waited for longer than the other."""


def installed() -> tuple[Any, ...]:
    """The host's ``CheckpointInfo`` of every checkpoint, as they are now: somebody may refresh the list meanwhile."""
    return tuple(sd_models.checkpoints_list.values())  # at once: a loop over the host's own may find it changed


def selected(named: str | None) -> Any:
    """The checkpoint that a request names, else the selected one; ``None`` where the host lists neither.

    The host's ``select_checkpoint`` would take the first of its list instead, or fail where that is being read.
    """
    aliases = sd_models.checkpoint_aliases
    return aliases.get(named or "") or aliases.get(shared.opts.sd_model_checkpoint or "")


def require_selected(named: str | None) -> Any:
    """As :func:`selected`, waiting while the list is read anew.

    Raises:
        CheckpointError: there is none.
    """
    found = _once_listed(lambda: selected(named))
    if found is None:
        raise _no_target()
    return found


def selected_or_loaded(named: str | None, loaded: Any) -> Any:
    """As :func:`selected`; the loaded one while the list is read anew, or where its file is no more.

    Args:
        named: by the page.
        loaded: the loaded model, or ``None``.

    Raises:
        CheckpointError: there is none.
    """
    found = selected(named)
    if found is None and loaded is None:
        raise _no_target()
    return loaded.sd_checkpoint_info if found is None else found


def _no_target() -> CheckpointError:
    return CheckpointError("sd_model_checkpoint: no checkpoint is selected; refresh the list and choose one.")


def find_source(name: str, target: Any) -> Any:
    """The host's ``CheckpointInfo`` of a source checkpoint.

    Args:
        name: title, name, file name, hash or full path, exactly; ``same as target`` for the target itself.
        target: the target's ``CheckpointInfo``.

    Raises:
        CheckpointError: no checkpoint, or more than one, has that name.
    """
    if name in ("", SAME_AS_TARGET):
        return target
    return find_checkpoint(name, "source_checkpoint")


def find_checkpoint(name: str, argument: str) -> Any:
    """The host's ``CheckpointInfo`` of a checkpoint by its exact title, name, file name, hash or full path.

    Args:
        name: any of these.
        argument: where it was given, for the message.

    Raises:
        CheckpointError: no checkpoint, or more than one, has that name.
    """
    found = _once_listed(lambda: {info.filename: info for info in installed() if name in _names(info)})
    if not found:
        raise CheckpointError(
            f"{argument}: there is no checkpoint named {shown(name)}; choose one of the list, or refresh it if the "
            "file is new."
        )
    if len(found) > 1:
        titles = ", ".join(info.name for info in found.values())
        raise CheckpointError(f"{argument}: '{name}' may be any of {titles}; give the full file name.")
    return next(iter(found.values()))


def _names(info: Any) -> set[str]:
    return {name for name in (*info.ids, info.title, info.name, info.filename) if name}


def find_vae(name: str) -> str | None:
    """The file of a source VAE by its exact name; ``None`` for ``automatic``.

    Raises:
        CheckpointError: there is no VAE of that name.
    """
    if name in ("", AUTOMATIC):
        return None
    path: str | None = _once_listed(lambda: sd_vae.vae_dict.get(name))
    if path is None:
        raise CheckpointError(
            f"source_vae: there is no VAE named {shown(name)}; choose one of the list, or refresh it if it is new."
        )
    if not Path(path).is_file():
        raise CheckpointError(f"source_vae: the file {path} is gone; choose another VAE and refresh the list.")
    return path


def _once_listed(look: Callable[[], Found]) -> Found:
    """What is found, looked for again as long as the host's lists are empty or grow.

    The host empties them before it reads the folders anew: a grid in its tenth minute need not fail for a click on
    a refresh button.
    """
    limit = time.monotonic() + _LIMIT
    found = look()
    while not found and time.monotonic() < limit:
        before = _sizes()
        time.sleep(_STILL)
        found = look()
        if before == _sizes() and before[0]:
            break
    return found


def _sizes() -> tuple[int, int]:
    return len(sd_models.checkpoints_list), len(sd_vae.vae_dict)
