"""A fine-tune is trained on from pictures with a mistake, and keeps what it said elsewhere."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("transformers")

from demo import nets
from demo.train import latents, mistakes, stage, top, unet
from demo.world import make_scene, masks, parse_caption
from tests.demo.test_top import ABOVE, learned


@pytest.fixture(scope="module")
def scenes(pools):
    crowded = dataclasses.replace(pools[192], mistaken=pools[192].latents + 1.0)
    return mistakes.Scenes.of("ink", pools[192], crowded)


def test_mistakes_are_mended_above_the_feature_from_where_the_fine_tune_was(base, scenes, models, tmp_path):
    start = stage.load_state(base)["averages"]["unet"]
    moved = {k: v + 1e-3 if k.startswith("out.") and v.is_floating_point() else v for k, v in start.items()}
    fine_tune = tmp_path / "style-ink.pt"
    torch.save({"averages": {"unet": moved}}, fine_tune)
    plan = stage.Plan("mistakes-ink", tmp_path, 0.5, 1e-6, warmup_steps=1)
    mistakes.train(plan, fine_tune, base, scenes, models, torch.device("cpu"))
    after = stage.load_state(plan.state_file)["modules"]["unet"]
    assert learned(moved, after) == ABOVE
    assert (after["out.2.bias"] - moved["out.2.bias"]).abs().max() < 1e-4  # not from the base, which is 1e-3 away


def test_the_pupil_has_the_new_bottom_and_the_teacher_its_own(base, models, tmp_path):
    """Of three UNets: the fine-tune's top, the taught base's bottom; who teaches is the fine-tune as it was."""
    start = stage.load_state(base)["averages"]["unet"]
    paths = []
    for name, part in (("style-ink", "out."), ("bottom-taught", "middle_block.")):
        paths.append(tmp_path / f"{name}.pt")
        moved = {k: v + 0.01 if k.startswith(part) and v.is_floating_point() else v for k, v in start.items()}
        torch.save({"averages": {"unet": moved}}, paths[-1])
    pupil = top.Pupil.of(paths[0], models, torch.device("cpu"), paths[1])
    assert learned(start, pupil.unet.state_dict()) == {"out", "middle_block"}
    noisy, timestep, context = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.ones(1, 77, 64)
    found = pupil.teacher.unet(noisy, timestep, context=context)
    assert torch.allclose(found, top.frozen_unet(paths[0])(noisy, timestep, context=context), atol=1e-5)


def test_an_error_counts_more_at_things():
    """Six times as much in a thing and a latent around it as far from any, and 1 on average."""
    weight = mistakes.near_things([7, 8], 24)
    assert weight.shape == (2, 1, 24, 24)
    assert torch.allclose(weight.mean((1, 2, 3)), torch.ones(2))
    for row, seed in zip(weight[:, 0], (7, 8), strict=True):
        scene = make_scene(seed)
        thing = scene.things[0]
        at = row[int(thing.y * 24), int(thing.x * 24)]
        assert at / row.min() == pytest.approx(mistakes.THING)
        inside = torch.from_numpy(masks(scene, 24).any(0))
        assert row[inside].min() > 0.6 * at  # thin corners are less than a cell


def test_the_answer_to_a_mistake_leads_to_the_right_picture():
    """Whoever predicts the noise that a noisy latent of the wrong picture holds beside the right one has no error."""
    rng = np.random.default_rng
    clean, shown = torch.randn(12, 4, 8, 8), torch.randn(12, 4, 8, 8)
    timestep = torch.linspace(360, 900, 12).long()
    alpha_bar = nets.alphas_cumprod()[timestep].view(-1, 1, 1, 1)

    def knows(picture):
        return lambda noisy, timestep, context: (noisy - alpha_bar.sqrt() * picture) / (1 - alpha_bar).sqrt()

    def loss(answer, picture, weight):
        return float(mistakes.shape_loss(answer, clean, picture, timestep, torch.zeros(12, 1, 1), weight, rng(0)))

    even = torch.ones(12, 1, 8, 8)
    assert loss(knows(clean), shown, even) == pytest.approx(0, abs=1e-9)
    assert loss(knows(clean), clean, even) == pytest.approx(0, abs=1e-9)
    assert loss(knows(shown), shown, even) > 0.1
    half = even.clone()
    half[:, :, :4] = 0.0
    below = shown.clone()
    below[:, :, 4:] = clean[:, :, 4:]  # right where it counts
    assert loss(knows(below), shown, half) == pytest.approx(0, abs=1e-9)


def test_mistaken_latents_are_shown_with_the_right_caption_and_their_scenes_right_ones_beside(
    base, scenes, models, monkeypatch
):
    asked = {}

    def noted(answer, clean, shown, timestep, context, weight, rng):
        asked.update(clean=clean, shown=shown, timestep=timestep, context=context)
        return clean.sum()

    monkeypatch.setattr(mistakes, "shape_loss", noted)
    pupil = top.Pupil.of(base, models, torch.device("cpu"))
    mistakes._formed(pupil, scenes, 2, np.random.default_rng(0))
    wrong = 2 * mistakes.MISTAKEN_ROWS
    assert len(asked["clean"]) == wrong + 2 * sum(mistakes.RIGHT_ROWS) == len(asked["context"])
    apart = (asked["shown"] - asked["clean"])[:wrong].mean((1, 2, 3))
    assert torch.allclose(apart.abs(), torch.ones(wrong), atol=1e-5)  # either way round
    assert torch.equal(asked["shown"][wrong:], asked["clean"][wrong:])
    early, late = asked["timestep"][:wrong], asked["timestep"][wrong:]
    assert mistakes.MISTAKEN[0] <= early.min() < early.max() < mistakes.MISTAKEN[1]
    assert mistakes.FORMED[0] <= late.min()
    assert late.max() > 850


def test_a_mistake_is_read_either_way_round(scenes):
    """Whichever is asked for has its caption; a thing too many is never asked for."""
    turned = 0
    for seed in range(6):
        rows = mistakes._mistaken(scenes, 8, np.random.default_rng(seed))
        for clean, shown, at, text in zip(rows.clean, rows.shown, rows.seeds, rows.texts, strict=True):
            scene = make_scene(int(at))
            wrong = latents.mistake(scene)
            other = bool((shown - clean).mean() < 0)
            turned += other
            told = wrong if other else scene
            assert sorted((w.shape, w.colour) for w in parse_caption(text).things) == sorted(
                (t.shape, t.colour) for t in told.things
            )
            assert len(told.things) == len(scene.things)
    assert 8 <= turned <= 30


def test_what_is_mixed_up_most_comes_most_often():
    """A star for a cross; two things of one colour; the rest comes once."""
    found = set()
    for seed in range(200):
        things, wrong = make_scene(seed).things, latents.mistake(make_scene(seed)).things
        changed = next(({a.shape, b.shape} for a, b in zip(things, wrong, strict=False) if a != b), set())
        expected = 4.0 if changed == {"star", "cross"} else 1.6 if changed & {"star", "cross"} else 1.0
        if len({thing.colour for thing in things}) < len(things):
            expected *= 2.5
        assert mistakes.how_often(seed) == expected, seed
        found.add(expected)
    assert found == {1.0, 1.6, 2.5, 4.0, 10.0}


def test_what_was_said_is_kept(base, scenes, models):
    """Nothing is to be learned while it says the same; a change counts at other styles' pictures, and at its own with
    little noise or without a caption."""
    pupil = top.Pupil.of(base, models, torch.device("cpu"))
    asked: list[tuple[int, bool]] = []
    answer = pupil.answer

    def noted(noisy, timestep, context):
        said = context.abs().amax((1, 2)) > 0
        asked.extend(list(zip(timestep.tolist(), said.tolist(), strict=True))[mistakes.KEPT_ROWS[0] :])
        foreign.extend(timestep.tolist()[: mistakes.KEPT_ROWS[0]])
        return answer(noisy, timestep, context)

    foreign: list[int] = []
    pupil = dataclasses.replace(pupil, answer=noted)
    assert not set(scenes.own.seed_of) & set(scenes.others.seed_of)
    for seed in range(12):
        assert mistakes._kept(pupil, scenes, 1, np.random.default_rng(seed)) == 0
    assert len(foreign) == 12 * mistakes.KEPT_ROWS[0]
    assert max(foreign) > 900
    assert max(timestep for timestep, said in asked if said) < mistakes.FORMED[0]
    assert max(timestep for timestep, said in asked if not said) > 600
    with torch.no_grad():
        pupil.unet.out[2].bias += 0.1
    assert mistakes._kept(pupil, scenes, 1, np.random.default_rng(0)) > 0


def test_what_was_said_to_loud_captions_is_kept(base, scenes, models):
    """At all timesteps, of captions one and a half to four times as large, less up to 0.7 of the empty one."""
    pupil = top.Pupil.of(base, models, torch.device("cpu"))
    asked: list[torch.Tensor] = []
    answer = pupil.answer

    def noted(noisy, timestep, context):
        asked.append(context[:, 0, 0])
        return answer(noisy, timestep, context)

    words = SimpleNamespace(batch=lambda texts, rng=None: torch.tensor([[100 if text else 10] * 77 for text in texts]))
    teacher = dataclasses.replace(pupil.teacher, vocabulary=words)
    pupil = dataclasses.replace(pupil, answer=noted, teacher=teacher)
    for seed in range(3):
        assert mistakes._kept_loud(pupil, scenes.own, 8, np.random.default_rng(seed)) == 0
    loud = torch.cat(asked)
    assert loud.min() > unet.LOUD[0] - 0.1 * unet.LESS_EMPTY[1]
    assert 3.0 < loud.max() < unet.LOUD[1]
    with torch.no_grad():
        pupil.unet.out[2].bias += 0.1
    assert mistakes._kept_loud(pupil, scenes.own, 2, np.random.default_rng(0)) > 0


def test_most_noise_holds_a_trace_of_the_picture():
    """Up to 0.6 of it, in seven rows of ten, as large as the noise is."""
    clean, alpha_bar = torch.ones(400, 4, 2, 2), torch.full((400,), 0.36)
    trace = unet.traced(clean, torch.zeros_like(clean), alpha_bar, np.random.default_rng(0))[:, 0, 0, 0] / 0.8
    some = trace[trace > 0]
    assert len(some) / 400 == pytest.approx(unet.TRACED, abs=0.07)
    assert 0.55 < some.max() < unet.TRACE
    assert some.mean() == pytest.approx(unet.TRACE / 2, abs=0.03)
