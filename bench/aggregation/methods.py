"""The runs that the aggregation bench compares, on the demo's checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from bench.aggregation.plan import Rule, Run
from bench.quality.methods import CFG_SCALE, SCHEDULE, prompts
from demo.parts import Models
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
LEVELS = SCHEDULE.ddim_levels(STEPS)
CLEAN = SCHEDULE.at_timestep(0)
RELEASED_PULLS = (55.0, 45.0)


def results(
    run: Run, captions: Sequence[str], trajectory: SourceTrajectory, source: Models, target: Models
) -> Iterator[tuple[int, Tensor]]:
    """Of each of a run's windows (0: none) the clean latents (n, 4, h, w)."""
    conds = prompts(target, captions)
    if not run.windows or run.injection:
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
    if run.injection is None:
        return sample(predict, trajectory.start, LEVELS, conds, **options)
    profile, *ratios = run.injection
    feature, attention = (Window.from_ratio(ratio, STEPS) for ratio in ratios)
    with Injection(
        target.unet, feature_window=feature, attention_window=attention, profile=profile, shortcut=Shortcut.PROJECTIONS
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
