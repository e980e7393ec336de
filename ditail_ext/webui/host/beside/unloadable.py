"""Why the host cannot make a model of a file, in words for people."""

from __future__ import annotations

from typing import Any

from ....errors import CheckpointError


def unloadable(info: Any, error: BaseException, argument: str) -> CheckpointError:
    """What to say of a checkpoint that the host's loader has failed with.

    Args:
        info: the host's ``CheckpointInfo``.
        error: the loader's.
        argument: where the checkpoint was given.
    """
    if "meta tensor" in str(error):  # the host's loader leaves there what the file has no weights for
        why = "lacks weights of a UNet, a text encoder or a VAE; choose a whole checkpoint."
    else:
        said = f"{type(error).__name__}: {first_line(error)}"
        why = f"could not be loaded ({said}); choose another checkpoint or replace the file."
    return CheckpointError(f"{argument}: '{info.title}' {why}")


def first_line(error: BaseException) -> str:
    """What an error says, cut to what fits into a sentence."""
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
