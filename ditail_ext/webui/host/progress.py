"""The source's part in the host's progress bar, preview and buttons."""

from __future__ import annotations

from modules import devices, sd_samplers_common, shared
from torch import Tensor

from ...core import Level


class InversionStopped(Exception):  # noqa: N818 - nothing is wrong: someone pressed a button
    """Interrupt or Skip was pressed while the source was at work."""


class SourceProgress:
    """Jobs of the source before the host's own.

    Args:
        doing: what the person is told.
        steps: of one job.
        jobs: how many the host will count itself.
        own: how many the source has.
    """

    def __init__(self, doing: str, steps: int, jobs: int, own: int = 1) -> None:
        self._doing = doing
        self._steps = steps
        self._jobs = jobs
        self._own = own

    def begin(self) -> None:
        """Announce the jobs and begin the first."""
        state = shared.state
        state.job_count = self._own + (self._jobs if state.job_count == -1 else state.job_count)
        self._show()
        self.check()

    def next(self) -> None:
        """Begin the next job."""
        shared.state.nextjob()
        self._show()
        self.check()

    def _show(self) -> None:
        state = shared.state
        state.sampling_steps, state.sampling_step = self._steps, 0
        state.textinfo = f"Ditail: {self._doing}"

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


class InversionProgress(SourceProgress):
    """One job, told after every level of the inversion.

    Args:
        steps: levels to invert in all.
        jobs: how many the host will count itself.
    """

    def __init__(self, steps: int, jobs: int) -> None:
        super().__init__("inverting the picture", steps, jobs)
        self._done = 0

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


def broken_off() -> bool:
    """Whether the host breaks off what it samples: "stop generating" lets the picture at hand be finished."""
    return bool(shared.state.interrupted or shared.state.skipped)
