"""The base's training: leg after leg, silent parts stay silent, and what a row is shown is its own picture's."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("transformers")

from demo import nets, parts
from demo.train import base, bottom, stage, widen
from demo.train import unet as train_unet
from demo.train.top import frozen_unet
from demo.train.unet import Pool
from demo.world import caption, make_scene


def test_small_pictures_first_and_large_ones_last():
    first, last = base.LEGS[0], base.LEGS[-1]
    assert [first.side(number, progress) for number, progress in [(1, 0.0), (7, 0.79)]] == [128, 128]
    assert [first.side(number, progress) for number, progress in [(21, 0.9), (20, 0.9)]] == [192, 128]
    assert [last.side(number, progress) for number, progress in [(1, 0.0), (10, 0.5)]] == [192, 128]


@pytest.fixture
def quick(monkeypatch):
    """A budget is time: here that of three steps on any machine; in the first one the last layer moves."""
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(ticks) / 2, process_time=lambda: next(ticks) * 100.0)
    monkeypatch.setattr(stage, "time", clock)


class Words:
    def batch(self, texts, rng=None):
        return torch.zeros(len(texts), 77, dtype=torch.int64)


class Text(torch.nn.Module):
    def forward(self, rows):
        return torch.ones(len(rows), 77, nets.UNET_CONFIG["context_dim"])


class Models:
    vocabulary = Words()
    text = Text()


def lesson():
    generator = torch.Generator().manual_seed(0)
    pools = {
        side: Pool(
            torch.randn(6, 4, side // 8, side // 8, generator=generator), ("ink",), np.zeros(6, int), np.arange(6)
        )
        for side in (128, 192)
    }
    return base.Lesson(pools, Models, torch.device("cpu"))


def test_silent_parts_stay_silent_in_training(tmp_path, quick):
    first, then = base.LEGS[:2]
    plan = stage.Plan("bottom", tmp_path, 2.0, 1e-3)
    base.train_leg(plan, first, None, lesson())
    base.train_leg(stage.Plan("whole", tmp_path, 2.0, 1e-3), then, plan.state_file, lesson())
    start = stage.load_state(plan.state_file)["modules"]["unet"]
    state = stage.load_state(tmp_path / "whole.pt")["modules"]["unet"]
    assert not state[f"output_blocks.{bottom.BLOCK}.0.skip_connection.weight"].any()
    for number in bottom.SILENT:
        assert not state[f"input_blocks.{number}.0.out_layers.3.weight"].any()
        assert not state[f"input_blocks.{number}.1.proj_out.weight"].any()
    for moved in ("input_blocks.0.0.weight", "middle_block.1.proj_in.weight", "output_blocks.11.0.in_layers.2.weight"):
        assert not torch.equal(state[moved], start[moved]), moved


def test_a_leg_of_the_bottom_leaves_what_lies_above_as_the_leg_before_left_it(tmp_path, quick):
    """And where it widens, says the same: the wide leg starts from what the narrow one says."""
    plan = stage.Plan("whole", tmp_path, 2.0, 1e-3)
    base.train_leg(plan, base.LEGS[1], None, lesson())
    base.train_leg(stage.Plan("again", tmp_path, 2.0, 1e-3), base.LEGS[2], plan.state_file, lesson())
    before = widen.widen_all(stage.load_state(plan.state_file)["averages"], 0)["unet"]
    after = stage.load_state(tmp_path / "again.pt")["averages"]["unet"]
    for number in range(bottom.BLOCK + 1, 12):
        name = f"output_blocks.{number}.0.in_layers.2.weight"
        assert torch.equal(after[name], before[name]), name
    assert not torch.equal(after["middle_block.1.proj_in.weight"], before["middle_block.1.proj_in.weight"])


def taught_lesson(scenes=6):
    """Scenes, each seen in ink and in the plain style, as the lesson of a bottom that learns from itself."""
    generator = torch.Generator().manual_seed(0)
    clean, plain = torch.randn(2, scenes, 4, 24, 24, generator=generator)
    pool = Pool(clean, ("ink",), np.zeros(scenes, int), np.arange(scenes), plain=plain)
    return base.Lesson({192: pool}, Models, torch.device("cpu"))


def test_only_the_bottom_learns_from_itself(tmp_path, quick):
    """What lies above says the same of the same feature: its skips and what it is told of the timestep stay, too."""
    start = stage.Plan("whole", tmp_path, 2.0, 1e-3)
    base.train_leg(start, replace(base.LEGS[1], wide=True), None, lesson())
    taught, pool = stage.Plan("taught", tmp_path, 2.0, 1e-3), taught_lesson().pools[192]
    base.teach_bottom(taught, start.state_file, pool, Models, torch.device("cpu"))
    unets = [frozen_unet(plan.state_file) for plan in (start, taught)]
    noisy, timestep, context = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.ones(1, 77, 64)
    below = [bottom.bottom(unet, noisy, timestep, context) for unet in unets]
    assert not torch.equal(*below)
    above = [bottom.top(unet, below[0], noisy, timestep, context) for unet in unets]
    assert torch.equal(*above)
    assert not unets[1].output_blocks[bottom.BLOCK][0].skip_connection.weight.any()


class Heard:
    """Stands in for the bottom: keeps what it is asked, and answers with the teacher's latents or with nothing."""

    def __init__(self):
        self.asked = []

    def __call__(self, unet, noisy, timestep, context):
        self.asked.append((unet, noisy, timestep, context))
        return noisy if unet == "teacher" else torch.zeros_like(noisy)


def test_the_goal_is_the_teacher_s_word_of_the_plain_picture_with_less_noise(monkeypatch):
    heard, told = Heard(), taught_lesson(64)
    captions: list[list[str]] = []
    monkeypatch.setattr(base, "bottom", heard)
    monkeypatch.setattr(
        Words, "batch", lambda self, texts, rng=None: captions.append(texts) or torch.zeros(len(texts), 77)
    )
    pool, picked = told.pools[192], torch.arange(64)
    monkeypatch.setattr(Pool, "pick", lambda self, rng, count, style_word: (picked, [f"row {style_word}"] * count))
    error = base.taught_loss("pupil", "teacher", told, 64, np.random.default_rng(0))
    (_, clearer, earlier, _), (_, noisy, timestep, _) = heard.asked
    assert captions == [[caption(make_scene(seed), bottom.PLAIN) for seed in range(64)], ["row 0.5"] * 64]
    assert base.LEAST_NOISY <= timestep.min() < 200 < 950 < timestep.max()  # of all levels, ...
    assert torch.all(earlier <= base.CLEARER * timestep)
    assert (earlier / timestep).max() > 0.9 * base.CLEARER  # ... and the goal's up to the half
    bar = nets.alphas_cumprod()
    for shown, level, own, other in (
        (clearer, earlier, pool.plain, pool.latents),
        (noisy, timestep, pool.latents, pool.plain),
    ):
        signal = bar[level].sqrt().mean()
        assert (shown * own).mean() == pytest.approx(signal.item(), abs=0.03)
        assert (shown * other).mean() == pytest.approx(0, abs=0.03)
    assert error.item() == pytest.approx(1, abs=0.05)  # who says nothing has all of the goal's variance to learn


def test_what_the_bottom_said_to_loud_captions_is_kept(monkeypatch):
    """Pupil and teacher are asked the same, which is about as loud as an inversion's condition; who says the same has
    no error."""
    heard, told = Heard(), taught_lesson()
    monkeypatch.setattr(base, "bottom", heard)
    asked = (told, 32, np.random.default_rng(0))
    assert base.kept_loud_loss("teacher", "teacher", *asked).item() == 0
    assert base.kept_loud_loss("pupil", "teacher", *asked).item() > 0.5
    goal, said = heard.asked[:2]
    assert all(torch.equal(mine, other) for mine, other in zip(goal[1:], said[1:], strict=True))
    loudness = said[3][:, 0, 0]  # the embeddings are ones, the empty caption's too
    assert train_unet.LOUD[0] - train_unet.LESS_EMPTY[1] < loudness.min() < 1.6
    assert 3.0 < loudness.max() < train_unet.LOUD[1]
    assert said[2].min() < 50
    assert said[2].max() > 950


def test_the_base_is_what_the_last_leg_leaves(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(base.Pool, "load", lambda *args: None)
    monkeypatch.setattr(base.stage, "is_done", lambda plan: plan.name == "bottom")
    monkeypatch.setattr(
        base, "train_leg", lambda plan, leg, start, lesson: started.append((plan.name, start and start.stem))
    )
    models = SimpleNamespace(text=torch.nn.Identity(), scale_factor=1.0)
    state = base.train(tmp_path, models, (128, 192), 1.0, torch.device("cpu"))
    names = [leg.name for leg in base.LEGS]
    assert started == list(zip(names[1:], names[:-1], strict=True))
    assert state == tmp_path / f"{names[-1]}.pt"


def test_a_training_that_goes_on_leaves_its_newest_whole_base(tmp_path):
    """What is written is the last whole leg as wide as what is shipped, or what learned from it; not the text
    encoder's UNet."""
    whole = [leg.name for leg in base.LEGS if leg.whole and leg.wide]
    assert [*whole, "bottom-taught"] == list(parts.BASES[1:])
    for done in range(1, len(parts.BASES) + 1):
        (tmp_path / f"{parts.BASES[done - 1]}.pt").touch()
        (tmp_path / "bottom-again.pt").touch()
        newest = parts._last(tmp_path, *parts.BASES)
        assert newest is not None
        assert newest.stem == parts.BASES[done - 1]


def test_the_bottom_knows_more_of_the_same_picture():
    clean = torch.stack([torch.full((4, 8, 8), float(k)) for k in range(40)])
    timestep = torch.full((40,), 900)
    noisy = torch.full_like(clean, -7.0)
    shown, earlier = base.know_more(clean, noisy, timestep, np.random.default_rng(0))
    same = earlier == timestep
    assert 8 <= int(same.sum()) <= 24
    assert torch.equal(shown[same], noisy[same])
    bar = nets.alphas_cumprod()[earlier[~same]].view(-1, 1, 1, 1)
    off = shown[~same] - bar.sqrt() * clean[~same]  # what is left is noise of that level
    assert torch.all(earlier[~same] < 900)
    assert (off / (1 - bar).sqrt()).std() == pytest.approx(1, abs=0.05)
