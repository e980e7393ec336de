"""Several processes train one model: `torchrun --standalone --nproc-per-node N -m demo.train ...`.

Networks this small leave a CPU's cores waiting for each other when one process uses them all; one process per
core, each with rows of its own and the gradients averaged, is about twice as fast on four cores. Without
torchrun there is one worker and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn


def start() -> None:
    """Join the other workers if torchrun has started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")


def count() -> int:
    """How many workers there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This worker's number; 0 is the one that writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def wait() -> None:
    """Wait until every worker is here."""
    if count() > 1:
        dist.barrier()


def seeds(stage_seed: int, step: int) -> tuple[int, ...]:
    """Seeds of one step's random numbers: each worker draws rows of its own."""
    return (stage_seed, step) if count() == 1 else (stage_seed, step, rank())


def average(parameters: Sequence[nn.Parameter], seconds: float) -> float:
    """Average the gradients over the workers; the mean of their `seconds`, so that all stop at one step."""
    if count() == 1:
        return seconds
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([*(g.flatten() for g in grads), torch.tensor([seconds], device=grads[0].device)])
    dist.all_reduce(flat)
    flat /= count()
    for grad, mean in zip(grads, flat[:-1].split([g.numel() for g in grads]), strict=True):
        grad.copy_(mean.view_as(grad))
    return float(flat[-1])
