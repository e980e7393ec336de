"""The inversion in the host's progress bar, preview and buttons."""

from __future__ import annotations

from modules import devices, sd_samplers_common, shared
from torch import Tensor

from ..core import Level


class InversionStopped(Exception):  # noqa: N818 - nothing is wrong: someone pressed a button
    """Interrupt or Skip was pressed during the inversion."""


class InversionProgress:
    """A job of its own before the host's; told after every level of the inversion.

    Args:
        steps: levels to invert in all.
        jobs: how many the host will count itself.
    """

    def __init__(self, steps: int, jobs: int) -> None:
        self._done = 0
        self._steps = steps
        self._jobs = jobs

    def begin(self) -> None:
        """Announce the job."""
        state = shared.state
        state.job_count = self._jobs + 1 if state.job_count == -1 else state.job_count + 1
        state.sampling_steps, state.sampling_step = self._steps, 0
        state.textinfo = "Ditail: inverting the picture"
        self.check()

    def end(self) -> None:
        """Leave the state to the host's own jobs, whatever happened."""
        state = shared.state
        state.textinfo = None
        state.current_latent = None
        state.nextjob()

    def check(self) -> None:
        """Stop if someone asked for it.

        Raises:
            InversionStopped: someone did.
        """
        if stop_asked():
            raise InversionStopped

    def __call__(self, step: int, steps: int, level: Level, latent: Tensor) -> None:
        """One level is done."""
        self._done += 1
        shared.state.sampling_step = self._done
        shared.total_tqdm.update()
        sd_samplers_common.store_latent(latent.to(devices.dtype_vae))
        self.check()


def stop_asked() -> bool:
    """Whether Interrupt or Skip was pressed."""
    state = shared.state
    return bool(state.interrupted or state.skipped or state.stopping_generation)
