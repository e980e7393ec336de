"""What a window of 4 in 20 steps costs: `python -m bench.aggregation.cost`.

UNet rows, the process's CPU seconds (of a plain run of the same round, one thread) and the peak of a fresh process's
memory over what it held after a plain run; on the demo's checkpoints, DDIM with guidance, one picture. A companion's
UNet is loaded within the measurement and given back at the window's end. Writes bench/results/aggregation-cost.csv.
"""

from __future__ import annotations

import csv
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.aggregation.methods import LEVELS, STEPS
from bench.memory import peak_of
from bench.quality.methods import CFG_SCALE, SCHEDULE, prompts
from demo import tokenizer
from demo.nets import make_unet
from demo.parts import SHIPPED, Models, load, read
from demo.sample import held_out_prompts
from demo.train.unet import SIDE
from ditail_ext.core import (
    Aggregation,
    Companion,
    Companions,
    Level,
    Slerp,
    Window,
    guided_noise,
    ldm_noise_predictor,
    sample,
)

RESULT = Path(__file__).parents[1] / "results" / "aggregation-cost.csv"
ROUNDS = 5
COMPANIONS = {"target alone": (), "one companion": ("ink",), "two companions": ("ink", "mosaic")}


class Run:
    """One run of the target, with companions for the first four steps."""

    def __init__(self, target: Models, others: tuple[str, ...]) -> None:
        self.target = target
        self.others = others
        self.rows = 0
        self.loads = 0
        self.held: dict[str, nn.Module] = {}

    def __call__(self) -> None:
        """Sample one picture."""
        self.rows = self.loads = 0
        start = torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(0))
        conds = prompts(self.target, held_out_prompts(1))
        companions = None
        if self.others:
            weights = [0.5 / len(self.others)] * len(self.others)
            aggregation = Aggregation(Slerp.beside_target(weights), Window(0, 4))
            models = [Companion(self.estimate(name)) for name in self.others]
            companions = Companions(aggregation, models, SCHEDULE, self.held.clear)
        predict = self.counted(ldm_noise_predictor(self.target.unet))
        sample(predict, start, LEVELS, conds, cfg_scale=CFG_SCALE, companions=companions)

    def counted(self, predict: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A predictor that counts its rows."""

        def counting(latent: Tensor, *given: object) -> Tensor:
            self.rows += latent.shape[0]
            return predict(latent, *given)

        return counting

    def estimate(self, name: str) -> Callable[[Tensor, Level], Tensor]:
        """A companion's estimate; its UNet is loaded when it is first asked."""
        conds = prompts(self.target, held_out_prompts(1))

        def estimate(latent: Tensor, level: Level) -> Tensor:
            if name not in self.held:
                unet = make_unet()
                unet.load_state_dict(read(SHIPPED, f"unet-{name}"))
                self.held[name] = unet.eval().requires_grad_(False)
                self.loads += 1
            predict = self.counted(ldm_noise_predictor(self.held[name]))
            return guided_noise(predict, conds, cfg_scale=CFG_SCALE)(latent, level)

        return estimate


def seconds(run: Callable[[], None]) -> float:
    """The process's CPU seconds."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def loaded() -> Models:
    """The target, on one thread."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as words:
        tokenizer.write(Path(words))
        return load(SHIPPED, "shaded", Path(words))


def peak_mib(name: str) -> float:
    """A run's peak, in a process that has held no companion before."""
    target = loaded()
    Run(target, ())()
    return (peak_of(Run(target, COMPANIONS[name]), torch.device("cpu")) or 0) / 2**20


def main() -> None:
    """Measure and write."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        peaks = pool.map(peak_mib, COMPANIONS, chunksize=1)
    target = loaded()
    runs = {name: Run(target, others) for name, others in COMPANIONS.items()}
    plain = runs["target alone"]
    plain()
    times = {name: [seconds(run) for run in runs.values()] for name in range(ROUNDS)}
    weights = sum(p.numel() * p.element_size() for p in target.unet.parameters()) / 2**20
    rows: list[dict[str, object]] = []
    for at, (name, run) in enumerate(runs.items()):
        ratios = [spent[at] / spent[0] for spent in times.values()]
        rows.append(
            {
                "run": name,
                "steps": STEPS,
                "window": 4 if run.others else 0,
                "UNet rows": run.rows,
                "rows to plain": f"{run.rows / plain.rows:.2f}",
                "CPU time to plain, median": f"{statistics.median(ratios):.2f}",
                "lowest": f"{min(ratios):.2f}",
                "highest": f"{max(ratios):.2f}",
                "loads": run.loads,
                "peak MiB": f"{peaks[at]:.0f}",
                "UNet MiB": f"{weights:.0f}",
            }
        )
        print(*rows[-1].values())
    with RESULT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
