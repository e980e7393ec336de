"""The probe extension as a test sees it: what the UNet was called with, the host's state, switches."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .client import Client


@dataclass(frozen=True)
class Call:
    """One call of the UNet.

    Attributes:
        checkpoint: file name of the loaded checkpoint.
        x: (rows, 4, h, w) as the UNet got it.
        timesteps: (rows,).
        context: text embeddings (rows, tokens, width).
        vector: SDXL's second condition (rows, width); None elsewhere.
        output: what it returned; None where it did not finish (cut short, or an exception).
        sampling: it was made while ``p.sample`` ran.
    """

    checkpoint: str
    x: np.ndarray
    timesteps: np.ndarray
    context: np.ndarray | None
    vector: np.ndarray | None
    output: np.ndarray | None
    sampling: bool

    @property
    def rows(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Records:
    """What happened since the last reset.

    Attributes:
        calls: the UNet's, in order.
        samples: the final latents (batch, 4, h, w) of each batch.
        init_latents: img2img's encoded picture of each batch.
        loads: file names whose weights were loaded into a model, in order.
        reuses: file names of models that were switched to without loading.
        encodes: calls of the VAE's encoder.
        watched: outputs of the module named by the switch ``watch``, in order.
    """

    calls: list[Call]
    samples: list[np.ndarray]
    init_latents: list[np.ndarray]
    loads: list[str]
    reuses: list[str]
    encodes: int
    watched: list[np.ndarray]

    @property
    def source_ran(self) -> bool:
        """Whether the UNet was called outside of sampling: for an inversion, or the content's generation."""
        return any(not call.sampling for call in self.calls)

    @property
    def switches(self) -> list[str]:
        """File names of models that were switched to, loaded or held: first the loaded ones."""
        return [*self.loads, *self.reuses]

    @property
    def rows(self) -> int:
        return sum(call.rows for call in self.calls)


class Probe:
    """The probe extension of one WebUI."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def reset(self, **switches: Any) -> None:
        """Forget what was recorded and set the switches, all others off.

        Switches: ``throw_at`` (the UNet call, from 1, that raises), ``throw`` (name of the exception's class:
        RuntimeError, OutOfMemoryError, ...), ``throw_load`` (file name whose next load raises, once),
        ``stage`` (load, build, move, prompts, encode, run or decode: the source's, whose next beginning outside of
        sampling does ``then``, once), ``then`` (an exception's class, interrupt or skip),
        ``stop_at`` (the UNet call at which ``stop`` is pressed), ``stop`` (interrupt, skip or stop_generating),
        ``delay`` (seconds before each UNet call), ``watch`` (path of a module in the UNet whose outputs are kept),
        ``break_in`` (a place, as ``ditail_probe.breaking`` names them, that breaks at its call ``break_at`` with what
        ``break_with`` names: an exception or a button).
        """
        answer = self._client.post("/probe/reset", switches)
        assert answer.status == 200, answer.body

    def state(self) -> dict[str, Any]:
        """What must be the same before and after any request.

        Hooks and instance forwards of the model's modules, checkpoint, VAE, LoRAs, hypernetworks, options,
        hashes of the noise schedule and the weights, number of callbacks.
        """
        answer = self._client.get("/probe/state")
        assert answer.status == 200, answer.body
        return answer.body

    def count(self) -> int:
        """UNet calls so far; answers while a request runs."""
        return self._client.get("/probe/count").body["calls"]

    def reached(self) -> int:
        """How often the place that ``break_in`` names was called so far."""
        return int(self._client.get("/probe/count").body["reached"])

    def records(self) -> Records:
        text, values = self._client.get_bytes("/probe/records").split(b"\n", 1)

        def found(part: dict[str, Any]) -> Any:
            if set(part) != {"shape", "at"}:
                return part
            flat = np.frombuffer(values, np.float32, math.prod(part["shape"]), part["at"])
            return flat.reshape(part["shape"]).copy()

        body = json.loads(text, object_hook=found)
        return Records(**{**body, "calls": [Call(**call) for call in body["calls"]]})
