"""What merging does to a latent's norm and spread, step by step: `python -m bench.aggregation.norms`.

The demo's ink checkpoint beside its shaded one, eight captions, the first eight of 20 DDIM steps, merged after each.
A latent's norm is divided by what the level's latents have: the mean over both models' own runs from the same starts.
So is its standard deviation over a latent's numbers. Writes bench/results/aggregation-norms.csv.
"""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.aggregation.methods import LEVELS, RELEASED_PULLS, STEPS
from bench.quality.methods import CFG_SCALE, SCHEDULE, prompts
from demo import tokenizer
from demo.parts import SHIPPED, Models, load
from demo.sample import held_out_prompts
from demo.train.unet import SIDE
from ditail_ext.core import (
    Aggregation,
    Companion,
    Companions,
    Merge,
    Pull,
    ReleasedMix,
    Slerp,
    Window,
    guided_noise,
    ldm_noise_predictor,
    sample,
)

RESULT = Path(__file__).parents[1] / "results" / "aggregation-norms.csv"
PICTURES, MERGED = 8, 8
RULES: dict[str, tuple[Merge, Pull | None]] = {
    "slerp 0.5": (Slerp((0.5, 0.5)), None),
    "released 0.5, no pull": (ReleasedMix((0.5,)), None),
    "released 0.5, pulled 55 and 45": (ReleasedMix((0.5,)), Pull(RELEASED_PULLS)),
}


@dataclass(frozen=True)
class Pair:
    """Target and source, the same captions, and a start for each."""

    target: Models
    source: Models
    captions: list[str]
    starts: tuple[Tensor, Tensor]

    def run(self, models: Models, start: Tensor, companions: Companions | None = None) -> list[Tensor]:
        """The latents after each of the first steps."""
        after: list[Tensor] = []
        sample(
            ldm_noise_predictor(models.unet),
            start,
            LEVELS[:MERGED],
            prompts(models, self.captions),
            cfg_scale=CFG_SCALE,
            clean=LEVELS[MERGED],
            companions=companions,
            on_step=lambda step, steps, level, latent: after.append(latent),
        )
        return after

    def merged(self, rule: Merge, pull: Pull | None) -> list[Tensor]:
        """The target's latents, merged with the source's after each step."""
        estimate = guided_noise(
            ldm_noise_predictor(self.source.unet), prompts(self.source, self.captions), cfg_scale=CFG_SCALE
        )
        aggregation = Aggregation(rule, Window(0, MERGED), pull)
        return self.run(
            self.target, self.starts[0], Companions(aggregation, [Companion(estimate, self.starts[1])], SCHEDULE)
        )


def norms(latents: list[Tensor]) -> list[Tensor]:
    """Of each step (pictures,)."""
    return [latent.flatten(1).norm(dim=1) for latent in latents]


def stds(latents: list[Tensor]) -> list[Tensor]:
    """Of each step (pictures,)."""
    return [latent.flatten(1).std(dim=1) for latent in latents]


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as words:
        tokenizer.write(Path(words))
        target, source = (load(SHIPPED, style, Path(words)) for style in ("shaded", "ink"))
    noise = torch.randn(2, PICTURES, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(1))
    rows: list[dict[str, object]] = []
    for name, starts in (("one noise", (noise[0], noise[0])), ("a noise each", (noise[0], noise[1]))):
        models = Pair(target, source, held_out_prompts(PICTURES), starts)
        alone = models.run(target, starts[0]), models.run(source, starts[1])
        level = [(norms(list(pair))[0] + norms(list(pair))[1]).mean() / 2 for pair in zip(*alone, strict=True)]
        spread = [(stds(list(pair))[0] + stds(list(pair))[1]).mean() / 2 for pair in zip(*alone, strict=True)]
        for rule, how in RULES.items():
            merged = models.merged(*how)
            for step, (norm, std) in enumerate(zip(norms(merged), stds(merged), strict=True)):
                ratio, wide = norm / level[step], std / spread[step]
                numbers = {"norm": ratio.mean(), "lowest": ratio.min(), "highest": ratio.max(), "std": wide.mean()}
                place = {"starts": name, "rule": rule, "step": step, "of": STEPS}
                rows.append({**place, **{key: f"{float(value):.4f}" for key, value in numbers.items()}})
    with RESULT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(*row.values())


if __name__ == "__main__":
    main()
