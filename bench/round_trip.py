"""How closely the inversion rules return: invert, sample back with the same UNet, compare.

``python -m bench.round_trip [--levels "DDIM 10" ...] [--out FILE]`` uses the golden UNets and prompts
(tests/golden): positive scale 1, negative scale 0, CFG 1, no injection. It prints a markdown table and writes
bench/results/round_trip.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import torch
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from safetensors import safe_open
from torch import Tensor

from ditail_ext.core import (
    Condition,
    InversionRule,
    Level,
    NoiseSchedule,
    PredictNoise,
    Prompts,
    invert,
    ldm_noise_predictor,
    mix,
    sample,
)

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
RESULTS = ROOT / "bench" / "results" / "round_trip.csv"
CASES = ("full_mask_10_steps", "left_mask_12_steps")
RULES = [(rule, refinements) for rule in InversionRule for refinements in (0, 1, 2)]


@dataclass(frozen=True)
class Result:
    """One rule's round trip along one list of levels, averaged (root mean square) over UNets and latents."""

    levels: str
    rule: str
    refinements: int
    unet_calls: int
    relative_l2: float
    relative_max: float
    times_smaller: float


def golden_unets() -> dict[str, PredictNoise]:
    """Noise predictors of the two golden UNets, by name."""
    with safe_open(GOLDEN / "unets.safetensors", framework="pt") as file:
        config = json.loads(file.metadata()["unet_config"])
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    predictors = {}
    for name in ("source", "target"):
        unet = UNetModel(**config).eval().requires_grad_(False)
        unet.load_state_dict({k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")})
        predictors[name] = ldm_noise_predictor(unet)
    return predictors


def golden_case(name: str) -> dict[str, Tensor]:
    """A golden case's tensors."""
    with safe_open(GOLDEN / f"{name}.safetensors", framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def level_lists(schedule: NoiseSchedule) -> dict[str, list[Level]]:
    """Lists of levels that a sampler may visit, noisiest first."""
    lists = {f"DDIM {steps}": schedule.ddim_levels(steps) for steps in (10, 20, 50)}
    low, high = (schedule.at_timestep(t).sigma ** (1 / 7) for t in (0, 999))
    karras = [(high + index / 19 * (low - high)) ** 7 for index in range(20)]
    return {**lists, "Karras 20": [schedule.at_sigma(sigma) for sigma in karras]}


def round_trip(
    predict: PredictNoise, latent: Tensor, levels: list[Level], cond: Condition, rule: InversionRule, refinements: int
) -> tuple[Tensor, int]:
    """The latent after inversion and sampling, and the inversion's UNet calls."""
    calls = 0

    def counted(latent: Tensor, level: Level, cond: Condition) -> Tensor:
        nonlocal calls
        calls += 1
        return predict(latent, level, cond)

    trajectory = invert(counted, latent, levels[::-1], cond, rule=rule, refinements=refinements)
    return sample(predict, trajectory.start, levels, Prompts(cond, cond, cond), cfg_scale=1.0), calls


def measure(lists: Collection[str], rules: Sequence[tuple[InversionRule, int]] = RULES) -> list[Result]:
    """Rules with their refinements, along lists of levels by name; the first is what the others are compared with."""
    predictors, cases = golden_unets(), [golden_case(name) for name in CASES]
    results = []
    for name, levels in level_lists(NoiseSchedule.stable_diffusion()).items():
        authors = None
        for rule, refinements in rules if name in lists else ():
            squares, largest, calls = [], [], 0
            for predict in predictors.values():
                for case in cases:
                    cond = mix(case["emb_pos"], case["emb_neg"], 1.0, 0.0)
                    back, calls = round_trip(predict, case["z0"], levels, cond, rule, refinements)
                    error = back - case["z0"]
                    squares.append(float(error.norm() / case["z0"].norm()) ** 2)
                    largest.append(float(error.abs().max() / case["z0"].abs().max()))
            l2 = (sum(squares) / len(squares)) ** 0.5
            authors = authors or l2
            results.append(Result(name, rule.value, refinements, calls, l2, max(largest), authors / l2))
    return results


def main() -> None:
    """Print the table and write the file."""
    names = list(level_lists(NoiseSchedule.stable_diffusion()))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--levels", nargs="+", choices=names, default=names, help="lists of levels; all if left out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)  # the networks are too small for more
    results = measure(args.levels)
    print("| levels | rule | refinements | UNet calls | relative L2 | relative max | times smaller |")
    print("|---|---|---|---|---|---|---|")
    for r in results:
        print(
            f"| {r.levels} | {r.rule} | {r.refinements} | {r.unet_calls} | {r.relative_l2:.3f} "
            f"| {r.relative_max:.3f} | {r.times_smaller:.2f} |"
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Result)])
        writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in astuple(r)] for r in results)


if __name__ == "__main__":
    main()
