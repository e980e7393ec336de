"""A chain of seconds, stopped and taken up again."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("tqdm")

from demo.nets import Vae, alphas_cumprod
from demo.styles import STYLES, draw
from demo.train import latents, stage, top
from demo.train import unet as train_unet
from demo.train import vae as train_vae
from demo.train.colour_start import colour_start, fit_readout
from demo.train.latents import Drawings
from demo.train.unet import Pool
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


def test_a_polished_decoder_reads_the_same_latents(tmp_path, monkeypatch):
    """Only the decoder learns, from parts of whole pictures' latents; the encoder is bit for bit what it was."""
    monkeypatch.setattr(train_vae, "SIDE", 64)
    monkeypatch.setattr(train_vae, "POLISH_CROPS", ((1.0, 32),))
    torch.manual_seed(0)
    vae = Vae()
    colour_start(vae)
    start = tmp_path / "vae.pt"
    torch.save({"modules": {"vae": vae.state_dict()}}, start)
    plan = stage.Plan("decoder", tmp_path, 2.0, 1e-3, warmup_steps=1)
    train_vae.polish(plan, 3, start, torch.device("cpu"))
    state = stage.load_state(plan.state_file)
    means = np.load(next(tmp_path.glob("means-*.npy")))
    assert means.shape == (3 * len(STYLES), 4, 8, 8)
    for name, weight in vae.state_dict().items():
        same = torch.equal(weight, state["modules"]["vae"][name])
        assert same == name.startswith(("encoder", "quant_conv")), name


def test_a_mistake_is_one_thing_of_another_shape_or_one_too_many():
    """All else is as it was, and the same scene has always the same mistake."""
    kinds = {"taken over": 0, "another": 0, "more": 0}
    for seed in range(400):
        scene = make_scene(seed)
        wrong = latents.mistake(scene)
        assert wrong == latents.mistake(scene)
        assert (wrong.background, wrong.seed) == (scene.background, scene.seed)
        if len(wrong.things) > len(scene.things):
            assert wrong.things[:-1] == scene.things
            kinds["more"] += 1
            continue
        pairs = zip(scene.things, wrong.things, strict=True)
        (right, other), *rest = [pair for pair in pairs if pair[0] != pair[1]]
        assert not rest
        assert replace(other, shape=right.shape) == right
        kinds["taken over" if other.shape in {thing.shape for thing in scene.things} else "another"] += 1
    assert min(kinds.values()) > 30


class Counting:
    """Encodes a picture as its mean colour, and counts."""

    def __init__(self):
        self.rows = 0

    def encode(self, picture):
        self.rows += len(picture)
        small = picture.mean((1, 2, 3))[:, None, None, None].expand(
            -1, 4, picture.shape[2] // 8, picture.shape[3] // 8
        )
        return (small,)


def test_scenes_of_two_and_three_things_are_encoded_with_their_mistakes(tmp_path):
    """Once; and row by row they are of the same scenes."""
    vae, cpu = Counting(), torch.device("cpu")
    crowded = [Drawings("ink", 64, crowded=True, mistaken=wrong) for wrong in (False, True)]
    for each, many in zip(crowded, (5, 4), strict=True):
        latents.encode_style(tmp_path, vae, each, many, 60.0, cpu)  # type: ignore[arg-type]
        latents.encode_style(tmp_path, vae, each, many, 60.0, cpu)  # type: ignore[arg-type]
    assert vae.rows == 9
    pool = Pool.load_crowded(tmp_path, ["ink"], 64, 2.0)
    assert pool.mistaken is not None
    assert len(pool.latents) == len(pool.mistaken) == len(pool.seed_of) == 4
    assert pool.seed_of.tolist() == crowded[0].seeds(4)
    assert pool.things_of.min() > 1
    for row, seed in enumerate(pool.seed_of):
        scene = make_scene(int(seed))
        for found, drawn in ((pool.latents, scene), (pool.mistaken, latents.mistake(scene))):
            mean = to_tensor(draw(drawn, "ink", 64)[None]).mean()
            assert float(found[row].mean()) == pytest.approx(2 * float(mean), abs=1e-5)


def test_styles_training_scenes_are_of_their_own():
    """No scene is drawn for two styles, ordinary or crowded, and none is held out."""
    every = [
        s for style in STYLES for crowded in (False, True) for s in Drawings(style, 192, crowded=crowded).seeds(900)
    ]
    assert len(set(every)) == len(every) == 900 * 2 * len(STYLES)
    assert min(every) >= latents.TRAINING_SEEDS


class Words:
    """A vocabulary of lengths."""

    def batch(self, texts):
        return torch.tensor([[len(text)] for text in texts])


class Echo(torch.nn.Module):
    """Answers with the length of the text and the timestep."""

    def forward(self, noisy, timestep, context):
        return noisy + context.mean((1, 2)).view(-1, 1, 1, 1) + timestep.view(-1, 1, 1, 1)


def echo():
    return top.Teacher(Echo(), lambda rows: rows.float()[..., None], Words())  # type: ignore[arg-type]


def test_the_base_teaches_what_it_says_when_told_the_style():
    """Rows told the style are its answer; silent rows are its own answer to the empty caption."""
    teacher = echo()
    noisy, timestep = torch.randn(3, 4, 2, 2), torch.tensor([5, 6, 7])
    found = teacher.answer(noisy, timestep, ["a", "bb", "ccc"], "ink", 1)
    more = len(", ink style")
    expected = noisy + timestep.view(-1, 1, 1, 1) + torch.tensor([0.0, 2.0 + more, 3.0 + more]).view(-1, 1, 1, 1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_teacher_counts_as_the_picture_does():
    """The error is that of the noise, and grows with the noise as the picture's does."""

    def error(level):
        timestep = torch.tensor([level, level])
        noisy, context = torch.ones(2, 4, 2, 2), torch.ones(2, 1, 1)
        goal = Echo()(noisy, timestep, context) + 3
        return float(top.imitation_loss(Echo(), noisy, timestep, context, goal))

    alpha_bar = alphas_cumprod()
    assert error(100) == pytest.approx(9 / float(alpha_bar[100]) / 5, rel=1e-4)
    assert error(700) == pytest.approx(9 / float(alpha_bar[700]) / 5, rel=1e-4)
    assert error(999) == pytest.approx(9 * top.HEAVIEST / 5, rel=1e-4)  # bounded


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


def test_noise_has_an_offset_in_every_row_and_channel():
    """White noise of these sizes has a mean of 0.016: the rest is the offset, and the goal knows of it."""
    clean, bar = torch.zeros(200, 4, 64, 64), torch.full((200,), 0.36)
    noisy, noise = train_unet.noised(clean, bar, np.random.default_rng(0))
    assert torch.allclose(noisy, 0.8 * noise)
    means = noise.mean((2, 3))
    assert means.std() == pytest.approx((train_unet.OFFSET**2 + 1 / 64**2) ** 0.5, rel=0.08)
    assert (noise - means[:, :, None, None]).std() == pytest.approx(1, rel=0.01)
    between = torch.corrcoef(means.T)
    assert (between - torch.eye(4)).abs().max() < 0.25  # of its own in each channel
