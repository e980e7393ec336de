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


class Models:
    vocabulary = Words()

    @staticmethod
    def text(rows):
        return torch.ones(len(rows), 77, nets.UNET_CONFIG["context_dim"])


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


def test_only_the_bottom_learns_from_itself(tmp_path, quick, monkeypatch):
    """What lies above stays; half of the captions name the style, and crowded scenes come more often."""
    start, last = stage.Plan("whole", tmp_path, 2.0, 1e-3), base.LEGS[-1]
    base.train_leg(start, replace(base.LEGS[1], wide=True), None, lesson())
    picked = []
    monkeypatch.setattr(Pool, "pick", wrapped(Pool.pick, picked))
    base.train_leg(stage.Plan("taught", tmp_path, 2.0, 1e-3), last, start.state_file, lesson())
    unets = [as_left(tmp_path / f"{name}.pt") for name in ("whole", "taught")]
    noisy, timestep, context = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.ones(1, 77, 64)
    below = [bottom.bottom(unet, noisy, timestep, context) for unet in unets]
    assert not torch.equal(*below)
    above = [bottom.top(unet, below[0], noisy, timestep, context) for unet in unets]
    assert torch.equal(*above)  # its skips too, and what it is told of the timestep
    assert picked
    assert all(asked == {"crowded": True} and word == base.STYLE_WORD_TAUGHT == 0.5 for word, asked in picked)


@torch.no_grad()
def as_left(state):
    unet = nets.make_unet()
    unet.load_state_dict(stage.load_state(state)["averages"]["unet"])
    return unet.requires_grad_(False)


def wrapped(pick, seen):
    def noting(self, rng, count, style_word, **asked):
        seen.append((style_word, asked))
        return pick(self, rng, count, style_word, **asked)

    return noting


def test_the_goal_is_the_teacher_s_word_of_the_plain_picture_with_less_noise(monkeypatch):
    """Here the teacher says the latent that it sees: half of the goal's variance or more is the plain picture's."""
    generator, seen = torch.Generator().manual_seed(0), []
    clean, plain = torch.randn(2, 64, 4, 16, 16, generator=generator)

    def bottom_of(model, noisy, timestep, context):
        seen.append((model, noisy, timestep, context))
        return noisy if model == "teacher" else torch.zeros_like(noisy)

    monkeypatch.setattr(base, "bottom", bottom_of)
    rows = base.Rows(clean, plain, "context", "plain context")
    error, numbers = base.taught_step("student", "teacher", rows, np.random.default_rng(0))
    (teacher, clearer, earlier, told), (student, noisy, timestep, asked) = seen
    assert (teacher, told, student, asked) == ("teacher", "plain context", "student", "context")
    assert base.LEAST_NOISY <= timestep.min() < 200 < 950 < timestep.max()  # of all levels, ...
    assert torch.all(earlier <= base.CLEARER * timestep)
    assert (earlier / timestep).max() > 0.9 * base.CLEARER  # ... and the goal's up to the half
    bar = nets.alphas_cumprod()
    for shown, level, picture, other in ((clearer, earlier, plain, clean), (noisy, timestep, clean, plain)):
        signal = bar[level].sqrt().mean()
        assert (shown * picture).mean() == pytest.approx(signal.item(), abs=0.03)
        assert (shown * other).mean() == pytest.approx(0, abs=0.03)
    assert numbers["taught"] == pytest.approx(error.item())
    assert error.item() == pytest.approx(1, abs=0.05)


def test_the_teacher_is_told_all_of_the_scene_and_the_plain_style(monkeypatch):
    """Whatever the picture's own caption leaves out, or nothing of it."""
    told = lesson()
    heard = []
    monkeypatch.setattr(Words, "batch", lambda self, texts, rng=None: heard.append((texts, rng)) or torch.zeros(1))
    monkeypatch.setattr(Models, "text", staticmethod(lambda rows: rows))
    told.rows(base.LEGS[-1], (1, 0.5), np.random.default_rng(0))
    (_, random), (texts, whole) = heard
    assert random is not None
    assert whole is None
    full = {caption(make_scene(seed), bottom.PLAIN) for seed in range(6)}
    assert set(texts) <= full
    assert len(texts) == base.LEGS[-1].rows[192]


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
    assert [leg.name for leg in base.LEGS if (leg.whole or leg.taught) and leg.wide] == list(parts.BASES[1:])
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
