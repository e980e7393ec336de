"""What a fine-tune draws wrong is mended where it is wrong, and nowhere else."""

import dataclasses

import numpy as np
import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("transformers")

from demo import nets
from demo.classifier import MAP, Verdict
from demo.sample import denoise
from demo.train import stage, top
from demo.train.mending import mistakes, redrawn, rows
from demo.world import SHAPES, Wanted, caption, make_scene, masks, parse_caption

SIDE = 24
SCENE = make_scene(next(seed for seed in range(20_000_000, 20_000_100) if len(make_scene(seed).things) == 2))


def other_shape(thing):
    return next(shape for shape in SHAPES if shape != thing.shape)


def verdict(*found, scene=SCENE):
    """Of `(shape or None for the right one, area)` for every thing found, in the colours of the scene's."""
    things, areas = [], []
    for number, (shape, area) in enumerate(found):
        thing = scene.things[min(number, len(scene.things) - 1)]
        things.append(Wanted(shape or thing.shape, thing.colour))
        areas.append(area)
    return Verdict("ink", {}, tuple(things), np.any(areas, 0) if areas else np.zeros((MAP, MAP), bool), tuple(areas))


def mended(seen):
    """Where the right picture's latents (ones) stand in those as drawn (zeros): (24, 24) bool; None: not used."""
    drawn, right = torch.zeros(4, SIDE, SIDE), torch.ones(4, SIDE, SIDE)
    found = redrawn.mend(drawn, right, SCENE, seen)
    return None if found is None else found[0] > 0


def at(thing):
    return int(thing.y * SIDE), int(thing.x * SIDE)


FIRST, SECOND = masks(SCENE, MAP)


def test_only_the_wrong_thing_is_mended():
    found = mended(verdict((None, FIRST), (other_shape(SCENE.things[1]), SECOND)))
    assert not found[at(SCENE.things[0])]
    assert found[at(SCENE.things[1])]
    fine = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(FIRST).float()[None], SIDE)[0] > redrawn.HARDLY
    assert not (found & fine).any()
    assert found.float().mean() < 3 * SECOND.mean()  # and a latent around it


@pytest.mark.parametrize("number", [0, 1])
def test_a_thing_of_another_colour_is_wrong_too(number):
    seen = verdict((None, FIRST), (None, SECOND))
    colours = [thing.colour for thing in SCENE.things]
    wrong = dataclasses.replace(seen.things[number], colour="green" if colours[number] != "green" else "red")
    things = tuple(wrong if k == number else thing for k, thing in enumerate(seen.things))
    found = mended(dataclasses.replace(seen, things=things))
    assert [bool(found[at(thing)]) for thing in SCENE.things] == [number == 0, number == 1]


def test_what_is_right_is_left_out():
    assert mended(verdict((None, FIRST), (None, SECOND))) is None


def test_things_grown_together_are_both_mended():
    found = mended(verdict((other_shape(SCENE.things[0]), FIRST | SECOND)))
    assert all(found[at(thing)] for thing in SCENE.things)


def test_a_thing_too_many_is_taken_away():
    extra = np.zeros((MAP, MAP), bool)
    free = ~(FIRST | SECOND)
    corner = max(
        ((y, x) for y in (4, MAP - 12) for x in (4, MAP - 12)),
        key=lambda c: free[c[0] : c[0] + 8, c[1] : c[1] + 8].sum(),
    )
    extra[corner[0] : corner[0] + 8, corner[1] : corner[1] + 8] = True
    extra &= free
    found = mended(verdict((None, FIRST), (None, SECOND), (None, extra)))
    assert found[(corner[0] + 4) * SIDE // MAP, (corner[1] + 4) * SIDE // MAP]
    assert not any(found[at(thing)] for thing in SCENE.things)


def test_nothing_is_learned_of_a_thing_that_is_missing_or_elsewhere():
    """Nobody could know where it belongs."""
    assert mended(verdict((None, FIRST))) is None
    assert mended(verdict()) is None
    radius = round(SCENE.things[1].radius * MAP)
    moved = np.roll(SECOND, radius * 3 // 4, axis=0)
    assert (moved & SECOND).sum() > redrawn.LEAST_OVERLAP * SECOND.sum()
    assert mended(verdict((None, FIRST), (other_shape(SCENE.things[1]), moved))) is None


class Knows(torch.nn.Module):
    """Predicts the noise beside these latents, in the rows that have a caption; without one it says nothing."""

    def __init__(self, clean):
        super().__init__()
        self.clean, self.asked = clean, []

    def forward(self, noisy, timestep, context):
        self.asked.append((int(timestep[0]), context[:, 0, 0].clone()))
        alpha_bar = nets.alphas_cumprod()[timestep].view(-1, 1, 1, 1)
        clean = self.clean.repeat(len(noisy) // len(self.clean), 1, 1, 1)
        return (noisy - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt()


@pytest.mark.parametrize("fresh", [False, True])
def test_whoever_knows_the_picture_draws_it(fresh):
    """With and without fresh noise; with, the noise on the way is another."""
    clean, noisy = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    draws = [torch.Generator().manual_seed(k) for k in range(2)] if fresh else ()
    found = denoise(Knows(clean), noisy, torch.zeros(4, 77, 64), range(901, 0, -100), 4.0, draws)
    left = (1 - nets.alphas_cumprod()[0]).sqrt()
    assert (found - nets.alphas_cumprod()[0].sqrt() * clean).abs().max() < 6 * left


def test_fresh_noise_keeps_the_noise_of_its_size():
    """Before the last step what is beside the picture is as large as the schedule says, and no longer the first."""
    clean = torch.zeros(1, 4, 64, 64)
    noisy = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    seen = []

    class Watching(Knows):
        def forward(self, noisy, timestep, context):
            seen.append((int(timestep[0]), noisy[:1].clone()))
            return super().forward(noisy, timestep, context)

    start = noisy * (1 - nets.alphas_cumprod()[800]).sqrt()
    for fresh in ((), [torch.Generator().manual_seed(2)]):
        seen.clear()
        denoise(Watching(clean), start, torch.zeros(2, 77, 64), (800, 600, 400, 200), 1.0, fresh)
        last = seen[-1][1]
        assert float(last.std()) == pytest.approx(float((1 - nets.alphas_cumprod()[200]).sqrt()), rel=0.03)
        same = float(torch.corrcoef(torch.stack([last.flatten(), start.flatten()]))[0, 1])
        assert same > 0.99 if not fresh else same < 0.5


def test_it_draws_from_noised_scenes_with_their_captions(models):
    right = torch.randn(2, 4, 8, 8)
    knows = Knows(right)
    artist = dataclasses.replace(models, unet=knows)
    found = redrawn.redraw(artist, right, np.array([7, 8]), np.random.default_rng(0))
    assert (found - right).abs().max() < 0.3
    first, told = knows.asked[0]
    assert redrawn.NOISED[0] <= first < redrawn.NOISED[1]
    lengths = [len(caption(make_scene(seed))) / 100 for seed in (7, 8)]
    assert told.tolist() == pytest.approx([0.0, 0.0, *lengths])


@pytest.fixture
def crowded(pools):
    return dataclasses.replace(pools[192].of("ink"), styles=("ink",), style_of=np.zeros(3, np.int64))


def test_what_is_drawn_wrong_is_collected_once(base, crowded, models, tmp_path, monkeypatch):
    """Of every other scene, here; taken up from the file when the command is run again."""
    drawings = []

    def redraw(artist, right, seeds, rng):
        drawings.append(len(right))
        return right + 1.0

    def mend(drawn, right, scene, seen):
        return right if scene.seed % 2 else None

    monkeypatch.setattr(redrawn, "redraw", redraw)
    monkeypatch.setattr(redrawn, "mend", mend)
    monkeypatch.setattr(redrawn, "decode", lambda artist, made: np.zeros((len(made), 64, 64, 3), np.uint8))
    plan = stage.Plan("redrawing-ink", tmp_path, 0.0, 0.0)
    for _ in range(2):
        pool = redrawn.collect(plan, base, crowded, models, torch.device("cpu"))
    assert drawings == [3]
    assert sorted(pool.seed_of) == [seed for seed in sorted(crowded.seed_of) if seed % 2]
    for latents, wrong, seed in zip(pool.latents, pool.mistaken, pool.seed_of, strict=True):
        expected = crowded.latents[list(crowded.seed_of).index(seed)]
        assert torch.equal(latents, expected)
        assert torch.equal(wrong, expected + 1)
    assert len(pool.of("ink").latents) == len(pool.latents)


def test_nothing_wrong_is_nothing_to_learn(base, crowded, models, tmp_path, monkeypatch):
    monkeypatch.setattr(redrawn, "redraw", lambda artist, right, seeds, rng: right)
    monkeypatch.setattr(redrawn, "mend", lambda *_: None)
    monkeypatch.setattr(redrawn, "decode", lambda artist, made: np.zeros((len(made), 64, 64, 3), np.uint8))
    plan = stage.Plan("redrawing-ink", tmp_path, 0.0, 0.0)
    assert redrawn.collect(plan, base, crowded, models, torch.device("cpu")) is None


def test_its_own_mistakes_are_learned_beside_the_drawn_ones(base, crowded, pools, models, monkeypatch):
    """Shown as drawn, the mended ones asked for, by the scene's caption; an error counts most where it was wrong."""
    asked = {}

    def noted(answer, clean, shown, timestep, context, weight, rng):
        asked.update(clean=clean, shown=shown, timestep=timestep, context=context, weight=weight)
        return clean.sum()

    monkeypatch.setattr(mistakes, "shape_loss", noted)
    wrong = crowded.latents.clone()
    wrong[:, :, :2, :2] += 2.0
    own = dataclasses.replace(crowded, mistaken=wrong)
    crowd = dataclasses.replace(pools[192], mistaken=pools[192].latents + 1.0)
    scenes = dataclasses.replace(rows.Scenes.of("ink", pools[192], crowd), redrawn=own)
    mistakes._formed(top.Pupil.of(base, models, torch.device("cpu")), scenes, 1, np.random.default_rng(0))
    count, drawn = rows.WITH_REDRAWN
    assert len(asked["clean"]) == count + drawn + sum(rows.RIGHT_ROWS) == len(asked["weight"])
    changed = (asked["shown"] - asked["clean"])[-count:]
    assert torch.allclose(changed[:, :, :2, :2], torch.full((count, 4, 2, 2), 2.0), atol=1e-5)
    assert not changed[:, :, 2:].any()
    weight = asked["weight"][-count:, 0]
    assert torch.allclose(weight[:, :2, :2].amin((1, 2)), weight.amax((1, 2)))
    times = asked["timestep"][-count:]
    assert rows.REDRAWN[0] <= times.min() < times.max() < rows.REDRAWN[1]


def test_scenes_come_as_often_as_they_are_wrong(crowded):
    """Between four latents and thirty."""
    wrong = crowded.latents.clone()
    wrong[0, :, 0, 0] += 2.0
    wrong[1, :, 0, :12] += 2.0
    wrong[2] += 2.0
    pool = dataclasses.replace(crowded, mistaken=wrong)
    found = rows._redrawn(pool, 4600, np.random.default_rng(0))
    counts = [int((found.clean == latents).all((1, 2, 3)).sum()) for latents in crowded.latents]
    assert counts == pytest.approx([400, 1200, 3000], rel=0.15)
    for text, clean in zip(found.texts[:20], found.clean, strict=False):
        number = next(k for k, latents in enumerate(crowded.latents) if torch.equal(latents, clean))
        scene = make_scene(int(crowded.seed_of[number]))
        asked = sorted((w.shape, w.colour) for w in parse_caption(text).things)
        assert asked == sorted((t.shape, t.colour) for t in scene.things)
