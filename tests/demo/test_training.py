"""A chain of seconds, stopped and taken up again."""

import csv

import numpy as np
import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("tqdm")

from demo.nets import Vae, alphas_cumprod
from demo.styles import draw
from demo.train import stage
from demo.train import style as train_style
from demo.train import unet as train_unet
from demo.train import words as train_words
from demo.train.colour_start import colour_start, fit_readout
from demo.train.vae import to_tensor
from demo.world import make_scene


def run(folder, budget, seen):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    average = stage.Average(model)

    def step(number, progress):
        seen.append(number)
        rng = np.random.default_rng(number)
        x = torch.from_numpy(rng.standard_normal((8, 3), dtype=np.float32))
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return loss, {"loss": loss.item()}

    plan = stage.Plan("line", folder, budget, 0.05, warmup_steps=1)
    stage.run(plan, {"model": model}, step, {"model": average})
    return plan, model


def test_a_stage_goes_on_where_it_stopped(tmp_path):
    seen: list[int] = []
    plan, _ = run(tmp_path, 0.2, seen)
    assert stage.is_done(plan)
    first = len(seen)
    longer, model = run(tmp_path, 0.6, seen)
    assert stage.is_done(longer)
    assert seen == list(range(len(seen)))
    assert len(seen) > first
    assert (model.weight - 1).abs().max() < 0.05
    rows = list(csv.DictReader((tmp_path / "line.csv").open()))
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_a_finished_stage_with_the_same_budget_does_nothing(tmp_path):
    seen: list[int] = []
    run(tmp_path, 0.1, seen)
    count = len(seen)
    run(tmp_path, 0.1, seen)
    assert len(seen) == count


def test_the_vae_starts_with_the_right_colours():
    pictures = np.stack([draw(make_scene(seed), "ink", 128) for seed in range(4)])
    picture = to_tensor(pictures)
    torch.manual_seed(0)
    vae = Vae()
    colour_start(vae)
    fit_readout(vae, picture[:2])
    with torch.no_grad():
        decoded = vae.decode(vae.encode(picture)[0])
    coarse, coarse_decoded = (torch.nn.functional.avg_pool2d(t, 16) for t in (picture, decoded))
    assert (coarse - coarse_decoded).abs().mean() < 0.08


class Words:
    """A vocabulary of lengths."""

    def batch(self, texts):
        return torch.tensor([[len(text)] for text in texts])


class Echo(torch.nn.Module):
    """Answers with the length of the text and the timestep."""

    def forward(self, noisy, timestep, context):
        return noisy + context.mean((1, 2)).view(-1, 1, 1, 1) + timestep.view(-1, 1, 1, 1)


def echo():
    return train_style.Teacher(Echo(), lambda rows: rows.float()[..., None], Words())  # type: ignore[arg-type]


def test_the_base_teaches_what_it_says_when_told_the_style():
    """Rows told the style are its answer, emphasised; silent rows are its own answer to the empty caption."""
    teacher = echo()
    noisy, timestep = torch.randn(3, 4, 2, 2), torch.tensor([5, 6, 7])
    found = teacher.answer(noisy, timestep, ["a", "bb", "ccc"], "ink", 1)
    more = train_style.EMPHASIS * len(", ink style")
    expected = noisy + timestep.view(-1, 1, 1, 1) + torch.tensor([0.0, 2.0 + more, 3.0 + more]).view(-1, 1, 1, 1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_fine_tune_teaches_what_it_says_unasked():
    """The error is that between the two texts, at the same noise and timestep, and grows as the picture's does."""

    def error(asked, timesteps):
        rng = np.random.default_rng(1)
        clean = torch.ones(2, 4, 2, 2)
        return float(train_words.imitation(Echo(), echo(), clean, asked, ["ab", "abc"], timesteps, rng))

    assert error(["cd", "efg"], (0, 1000)) < 1e-9
    told = ["ab, ink style", "abc, ink style"]
    low, high = error(told, (100, 101)), error(told, (700, 701))
    alpha_bar = alphas_cumprod()
    assert low == pytest.approx(len(", ink style") ** 2 / float(alpha_bar[100]) / 5, rel=1e-4)
    assert high == pytest.approx(len(", ink style") ** 2 / float(alpha_bar[700]) / 5, rel=1e-4)


def test_noise_is_asked_for_at_the_given_timesteps_only():
    asked = []

    class Ear(torch.nn.Module):
        def forward(self, noisy, timestep, context):
            asked.extend(timestep.tolist())
            return torch.zeros_like(noisy)

    rng = np.random.default_rng(0)
    loss = train_unet.noise_loss(Ear(), torch.zeros(50, 4, 2, 2), torch.zeros(50, 1, 1), rng, (200, 300))
    assert loss > 0
    assert min(asked) < 205
    assert max(asked) > 294
    assert 200 <= min(asked) <= max(asked) < 300
