"""One training stage: a loop with a time budget that can be stopped and taken up again.

The state on disk holds the weights, the optimiser, the step and the seconds spent. Random numbers come from
the stage's seed, the step and the worker, so a resumed run sees the data an uninterrupted one would have seen.
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from demo.train import workers

log = logging.getLogger(__name__)

SAVE_EVERY_SECONDS = 60.0
LOG_EVERY_STEPS = 20


@dataclass(frozen=True)
class Plan:
    """A stage's name, where its state lives, its wall-clock budget and its learning rate."""

    name: str
    folder: Path
    budget_seconds: float
    learning_rate: float
    seed: int = 0
    warmup_steps: int = 50

    @property
    def state_file(self) -> Path:
        """Where the state is written."""
        return self.folder / f"{self.name}.pt"

    def rate(self, step: int, progress: float) -> float:
        """Learning rate: linear warm-up, then a cosine over the share of the budget that is spent."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


class Average:
    """Exponential moving average of a module's parameters (buffers are copied)."""

    def __init__(self, module: nn.Module, decay: float = 0.998) -> None:
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take one step of the average; early steps forget faster."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                self.values[key].lerp_(value, 1 - decay)
            else:
                self.values[key].copy_(value)


def is_done(plan: Plan) -> bool:
    """Whether the stage has spent its budget."""
    return plan.state_file.exists() and load_state(plan.state_file)["spent"] >= plan.budget_seconds


def load_state(path: Path) -> dict:
    """Read a state file onto the CPU."""
    return torch.load(path, map_location="cpu", weights_only=True)


def run(
    plan: Plan,
    modules: Mapping[str, nn.Module],
    train_step: Callable[[int, float], tuple[torch.Tensor, dict[str, float]]],
    averages: Mapping[str, Average] | None = None,
) -> None:
    """Train until the budget is spent.

    `train_step(step, progress)` returns the loss to minimise and the numbers to log; `progress` is the share
    of the budget spent, 0 to 1. Saves the state every minute and at the end.
    """
    averages = averages or {}
    parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=1e-4, fused=True)
    step, spent = _restore(plan, modules, averages, optimiser)
    total = round(plan.budget_seconds)
    writes = workers.rank() == 0
    bar = tqdm(total=total, initial=round(spent), unit="s", desc=plan.name, mininterval=30, disable=not writes)
    last_save, taken = time.monotonic(), 0.0
    while spent < plan.budget_seconds:
        start = time.monotonic()
        progress = spent / plan.budget_seconds
        optimiser.param_groups[0]["lr"] = rate = plan.rate(step, progress)
        loss, numbers = train_step(step, progress)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        spent += workers.average(parameters, taken)  # the step before this one: all workers agree
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        for name, average in averages.items():
            average.update(modules[name], step)
        step += 1
        taken = time.monotonic() - start
        bar.update(min(round(spent), total) - bar.n)
        if writes and step % LOG_EVERY_STEPS == 0:
            _log(plan, step, spent, rate, numbers)
        if writes and time.monotonic() - last_save > SAVE_EVERY_SECONDS:
            _save(plan, modules, averages, optimiser, step, spent)
            last_save = time.monotonic()
    bar.close()
    if writes:
        _save(plan, modules, averages, optimiser, step, spent)
    workers.wait()
    log.info("%s: %d steps in %.0f s", plan.name, step, spent)


def _restore(
    plan: Plan,
    modules: Mapping[str, nn.Module],
    averages: Mapping[str, Average],
    optimiser: torch.optim.Optimizer,
) -> tuple[int, float]:
    """Load the last state if there is one; the step and the seconds spent."""
    if not plan.state_file.exists():
        plan.folder.mkdir(parents=True, exist_ok=True)
        return 0, 0.0
    state = load_state(plan.state_file)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    for name, average in averages.items():
        device = next(iter(average.values.values())).device
        average.values = {k: v.to(device) for k, v in state["averages"][name].items()}
    optimiser.load_state_dict(state["optimiser"])
    for group in optimiser.param_groups:
        group["fused"] = True  # whatever the state was saved with
    log.info("%s: taken up at step %d, %.0f s", plan.name, state["step"], state["spent"])
    return state["step"], state["spent"]


def _save(
    plan: Plan,
    modules: Mapping[str, nn.Module],
    averages: Mapping[str, Average],
    optimiser: torch.optim.Optimizer,
    step: int,
    spent: float,
) -> None:
    """Write the state beside the old one, then put it in its place."""
    state = {
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "averages": {name: average.values for name, average in averages.items()},
        "optimiser": optimiser.state_dict(),
        "step": step,
        "spent": spent,
    }
    draft = plan.state_file.with_suffix(".tmp")
    torch.save(state, draft)
    draft.replace(plan.state_file)


def _log(plan: Plan, step: int, spent: float, rate: float, numbers: dict[str, float]) -> None:
    """Append one line to the stage's CSV."""
    path = plan.folder / f"{plan.name}.csv"
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "seconds", "rate", *numbers])
        writer.writerow([step, f"{spent:.1f}", f"{rate:.2e}", *(f"{v:.5f}" for v in numbers.values())])
