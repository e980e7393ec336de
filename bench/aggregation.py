"""What does aggregation carry over? AMDM's merged first steps against injection, on held-out drawn scenes.

The quality bench's scenes, pairs, judge and measures (`bench.quality`). The source's latents are merged into the
target's after the first steps, from the inverted picture or from the noise of the source's own.
`python -m bench.aggregation` measures what is missing in out/aggregation, then writes bench/results/aggregation.csv,
aggregation-pairs.csv and docs/aggregation.png (needs matplotlib). It can be stopped and run again.

    python -m bench.aggregation [--scenes 54] [--workers 1] [--report-only]
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from bench.aggregation_plan import RUNS, Rule, Run, Start
from bench.quality import Unit, Workshop, append, done, units
from bench.quality_methods import CFG_SCALE, SCHEDULE, Task, prompts
from bench.quality_methods import trajectory as content_trajectory
from bench.quality_plan import Kind
from bench.quality_plan import Method as Content
from bench.quality_scores import Reference, score, true_areas
from demo import tokenizer
from demo.parts import SHIPPED, Models
from demo.sample import decode, held_out_prompts, sample_many
from demo.styles import CHECKPOINT_STYLES, draw
from demo.train_unet import SIDE
from demo.world import caption, make_scene
from ditail_ext.core import (
    Aggregation,
    Companion,
    Companions,
    Injection,
    Prompts,
    Pull,
    ReleasedMix,
    Shortcut,
    Slerp,
    SourceTrajectory,
    Window,
    guided_noise,
    ldm_noise_predictor,
    sample,
)

STEPS = 20
OWN = 12  # pictures of each target model for its colour and texture
RELEASED_PULLS = (55.0, 45.0)
OUT = Path(__file__).parents[1] / "out" / "aggregation"
LEVELS = SCHEDULE.ddim_levels(STEPS)
CLEAN = SCHEDULE.at_timestep(0)
CONTENT = {Start.NOISE: Content(Kind.GENERATED, steps=STEPS), Start.INVERTED: Content(Kind.DITAIL, steps=STEPS)}


class Bench(Workshop):
    """One worker's models and judge."""

    def own_pictures(self, style: str) -> np.ndarray:
        """Text-to-image of held-out captions; fewer than the quality bench's, for a column that nobody ranks by."""
        return sample_many(self.models[style], held_out_prompts(OWN), seed=70_000)

    def run_start(self, unit: Unit, start: Start, references: dict[str, Reference]) -> list[dict[str, object]]:
        """All scores of a unit from one start."""
        scenes = [make_scene(seed) for seed in unit.seeds]
        noise = [torch.randn(4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(s)) for s in unit.seeds]
        drawn = np.stack([draw(scene, unit.source, SIDE) for scene in scenes])
        source, target = self.models[unit.source], self.models[unit.target]
        task = Task(drawn, [caption(scene) for scene in scenes], torch.stack(noise), source)
        trajectory = content_trajectory(CONTENT[start], task, target, LEVELS)
        own, areas = drawn, true_areas(scenes)
        if start is Start.NOISE:
            own = decode(source, trajectory.clean)
            areas = np.stack([verdict.mask for verdict in self.judge.judge(own)])
        rows: list[dict[str, object]] = []
        for run in RUNS[start]:
            for window, latents in results(run, task.captions, trajectory, source, target):
                made = decode(target, latents)
                scores = score(self.judge, made, own, areas, scenes, unit.target, references[unit.target])
                place = {"unit": unit.name, "source": unit.source, "target": unit.target, "start": start.value}
                for seed, result in zip(unit.seeds, scores, strict=True):
                    numbers = {name: f"{value:.4f}" for name, value in asdict(result).items()}
                    rows.append({**place, "scene": seed, "method": run.kind, "value": run.value(window), **numbers})
        return rows


def results(
    run: Run, captions: Sequence[str], trajectory: SourceTrajectory, source: Models, target: Models
) -> Iterator[tuple[int, Tensor]]:
    """Of each of a run's windows (0: none) the clean latents (n, 4, h, w)."""
    conds = prompts(target, captions)
    if not run.windows or run.full:
        window = run.windows[0] if run.windows else 0
        companions = companions_of(run, window, source, captions)
        yield window, whole(run, trajectory, target, conds, companions)
        return
    longest = max(run.windows)
    after: list[Tensor] = []
    options = {"cfg_scale": CFG_SCALE, "companions": companions_of(run, longest, source, captions)}
    predict = ldm_noise_predictor(target.unet)
    note = lambda step, steps, level, latent: after.append(latent)  # noqa: E731
    sample(predict, trajectory.start, LEVELS[:longest], conds, clean=LEVELS[longest], on_step=note, **options)
    for window in run.windows:
        start, rest = after[window - 1], LEVELS[window:]
        yield window, sample(predict, start, rest, conds, cfg_scale=CFG_SCALE, clean=CLEAN)


def whole(
    run: Run, trajectory: SourceTrajectory, target: Models, conds: Prompts, companions: Companions | None
) -> Tensor:
    """One whole run's clean latents."""
    predict = ldm_noise_predictor(target.unet)
    options = {"cfg_scale": CFG_SCALE, "clean": CLEAN, "companions": companions}
    if not run.full:
        return sample(predict, trajectory.start, LEVELS, conds, **options)
    window = Window.from_ratio(run.full, STEPS)
    with Injection(
        target.unet, feature_window=window, attention_window=window, profile="full", shortcut=Shortcut.PROJECTIONS
    ) as injection:
        return sample(predict, trajectory.start, LEVELS, conds, trajectory=trajectory, injection=injection, **options)


def companions_of(run: Run, window: int, source: Models, captions: Sequence[str]) -> Companions | None:
    """The source beside the target."""
    if not window:
        return None
    merge = Slerp.beside_target([run.weight]) if run.rule is Rule.SLERP else ReleasedMix((1 - run.weight,))
    pull = Pull(RELEASED_PULLS) if run.rule is Rule.RELEASED else None
    estimate = guided_noise(ldm_noise_predictor(source.unet), prompts(source, captions), cfg_scale=CFG_SCALE)
    return Companions(Aggregation(merge, Window(0, window), pull), [Companion(estimate)], SCHEDULE)


_bench: list[Bench] = []  # a worker process's own, made once: models cannot travel with every unit


def _start(parts: Path, words: Path) -> None:
    _bench.append(Bench(parts, words))


def _own_pictures(style: str) -> np.ndarray:
    return _bench[0].own_pictures(style)


def _run(unit: Unit, start: Start, references: dict[str, Reference]) -> list[dict[str, object]]:
    return _bench[0].run_start(unit, start, references)


def measure(options: argparse.Namespace) -> None:
    """Do the units that are not in the scores files yet, a file a start."""
    options.out.mkdir(parents=True, exist_ok=True)
    words = options.out / "tokenizer"
    tokenizer.write(words)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(options.workers, context, _start, (options.parts, words)) as pool:
        own = pool.map(_own_pictures, CHECKPOINT_STYLES)
        references = {s: Reference.of(pictures) for s, pictures in zip(CHECKPOINT_STYLES, own, strict=True)}
        for start in Start:
            path = options.out / f"{start.name.lower()}.csv"
            missing = [unit for unit in units(options.scenes, 1) if unit.name not in done(path)]
            jobs = [pool.submit(_run, unit, start, references) for unit in missing]
            for job in tqdm(as_completed(jobs), total=len(jobs), desc=start.value, unit="unit"):
                append(path, job.result())


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, default=SHIPPED)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--scenes", type=int, default=54)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not options.report_only:
        measure(options)
    from bench import aggregation_report  # last, and here: it needs matplotlib

    aggregation_report.write(options.out)


if __name__ == "__main__":
    main()
