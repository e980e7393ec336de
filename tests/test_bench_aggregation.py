"""The aggregation bench's own shortcuts: points that share their first steps, and what a point is called."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from bench.aggregation.methods import companions_of, results, whole
from bench.aggregation.plan import RUNS, Run, Start
from bench.quality.methods import prompts


def models(unet: torch.nn.Module) -> SimpleNamespace:
    """As the demo's, with a text encoder that gives each prompt's length a meaning."""
    generator = torch.Generator().manual_seed(2)
    words = torch.randn(64, 1, 64, generator=generator)
    vocabulary = SimpleNamespace(batch=lambda prompts: torch.tensor([len(prompt) % 64 for prompt in prompts]))
    return SimpleNamespace(unet=unet, vocabulary=vocabulary, text=lambda lengths: words[lengths].expand(-1, 77, -1))


def test_runs_that_share_their_first_steps_are_what_they_are_alone(unets: SimpleNamespace):
    source, target = models(unets.source), models(unets.target)
    start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    trajectory = SimpleNamespace(start=start)

    shared = dict(results(Run((2, 4), 0.5), ["a red circle"], trajectory, source, target))
    assert list(shared) == [2, 4]
    for window, latents in shared.items():
        run, captions = Run((window,), 0.5), ["a red circle"]
        beside = companions_of(run, window, source, captions)
        alone = whole(run, trajectory, target, prompts(target, captions), beside)
        assert torch.allclose(latents, alone, atol=1e-3 * float(alone.abs().max()))
    assert (shared[2] - shared[4]).abs().max() > 1e-2 * float(shared[2].abs().max())


@pytest.mark.parametrize("start", Start)
def test_no_two_points_have_one_name(start: Start):
    names = [
        (run.kind, run.value(window))
        for place, runs in RUNS.values()
        for run in runs
        for window in run.windows or (0,)
        if place is start
    ]
    assert len(set(names)) == len(names)
