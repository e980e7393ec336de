"""Fine-tunes and the LoRA leave the bottom as it is."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("transformers")

from demo import lora, nets, parts
from demo.train import bottom, shapes, stage, top
from demo.train.unet import Pool
from demo.world import make_scene, masks


class Words:
    """A vocabulary of lengths."""

    def batch(self, texts, rng=None):
        return torch.tensor([[len(text)] * 77 for text in texts])


class Text(torch.nn.Module):
    """Embeddings that are the rows, wide."""

    def forward(self, rows):
        return rows.float()[..., None].expand(-1, -1, nets.UNET_CONFIG["context_dim"]) / 100


@pytest.fixture(scope="module")
def models():
    return parts.Models(None, Text(), None, Words(), 1.0)


@pytest.fixture(scope="module")
def pools():
    generator = torch.Generator().manual_seed(0)
    styles = ("shaded", "ink")
    return {
        side: Pool(
            torch.randn(6, 4, side // 8, side // 8, generator=generator),
            styles,
            np.array([0, 0, 0, 1, 1, 1]),
            np.arange(6),
        )
        for side in (128, 192)
    }


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.manual_seed(0)
    unet = nets.make_unet()
    for parameter in unet.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    bottom.silence(unet)
    path = tmp_path_factory.mktemp("base") / "whole.pt"
    torch.save({"averages": {"unet": unet.state_dict()}}, path)
    return path


def test_one_style_of_a_pool(pools):
    ink = pools[128].of("ink")
    assert torch.equal(ink.latents, pools[128].latents[3:])
    assert ink.seed_of.tolist() == [3, 4, 5]
    _, texts = ink.draw(np.random.default_rng(0), 8, style_word=1.0, empty=0.0)
    assert all(text.endswith("ink style") for text in texts)


def learned(before, after):
    """The blocks in which two states differ."""
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    return {".".join(name.split(".")[:2]) if name.startswith("output") else name.split(".")[0] for name in changed}


ABOVE = {f"output_blocks.{k}" for k in range(5, 12)} | {"out"}


def test_a_fine_tune_changes_what_lies_above_the_feature_and_nothing_else(base, pools, models, tmp_path):
    plan = stage.Plan("style-ink", tmp_path, 0.5, 1e-3, warmup_steps=1)
    top.train_style(plan, base, pools, "ink", models, torch.device("cpu"))
    before = stage.load_state(base)["averages"]["unet"]
    assert learned(before, stage.load_state(plan.state_file)["modules"]["unet"]) == ABOVE


def test_shapes_are_learned_above_the_feature_from_where_the_fine_tune_was(base, pools, models, tmp_path):
    start = stage.load_state(base)["averages"]["unet"]
    moved = {k: v + 1e-3 if k.startswith("out.") and v.is_floating_point() else v for k, v in start.items()}
    fine_tune = tmp_path / "style-ink.pt"
    torch.save({"averages": {"unet": moved}}, fine_tune)
    plan = stage.Plan("shapes-ink", tmp_path, 0.5, 1e-6, warmup_steps=1)
    shapes.train(plan, fine_tune, pools[192], "ink", models, torch.device("cpu"))
    after = stage.load_state(plan.state_file)["modules"]["unet"]
    assert learned(moved, after) == ABOVE
    assert (after["out.2.bias"] - moved["out.2.bias"]).abs().max() < 1e-4  # not from the base, which is 1e-3 away


def test_a_fine_tune_is_what_its_last_stage_leaves(tmp_path, monkeypatch):
    kept = {}
    monkeypatch.setattr(parts, "save_fine_tune", lambda out, style, unet: kept.update({style: float(unet["w"])}))
    monkeypatch.setattr(parts.latents, "scale_factor", lambda *_: 1.0)
    words = SimpleNamespace(clip_ids=[])
    for value, stem in ((1.0, "style-ink"), (2.0, "shapes-ink"), (3.0, "style-mosaic")):
        torch.save({"averages": {"unet": {"w": torch.tensor(value)}}}, tmp_path / f"{stem}.pt")
    parts.write(tmp_path, tmp_path / "out", words)  # type: ignore[arg-type]
    assert kept == {"ink": 2.0, "mosaic": 3.0}


def test_what_is_silent_need_not_be_computed(base):
    """The same answer, of which nothing below the feature learns."""
    unet = top.frozen_unet(base).requires_grad_(True)
    torch.manual_seed(1)
    noisy, timestep, context = torch.randn(2, 4, 16, 16), torch.tensor([40, 700]), torch.randn(2, 77, 64)
    found = bottom.above_only(unet)(noisy, timestep, context=context)
    assert torch.allclose(found, unet(noisy, timestep, context=context), atol=1e-5)
    found.sum().backward()
    below = [unet.middle_block, *unet.input_blocks[7:], *unet.output_blocks[: bottom.BLOCK + 1]]
    assert all(p.grad is None for module in below for p in module.parameters())
    assert all(p.grad is not None for module in top.above(unet) for p in module.parameters())


def test_an_error_counts_more_at_things():
    """Six times as much in a thing and a latent around it as far from any, and 1 on average."""
    weight = shapes.near_things([7, 8], 24)
    assert weight.shape == (2, 1, 24, 24)
    assert torch.allclose(weight.mean((1, 2, 3)), torch.ones(2))
    for row, seed in zip(weight[:, 0], (7, 8), strict=True):
        scene = make_scene(seed)
        thing = scene.things[0]
        at = row[int(thing.y * 24), int(thing.x * 24)]
        assert at / row.min() == pytest.approx(shapes.THING)
        inside = torch.from_numpy(masks(scene, 24).any(0))
        assert row[inside].min() > 0.6 * at  # thin corners are less than a cell


def test_shapes_are_asked_for_where_they_are_decided():
    """The error of the noise, at the given timesteps only, as the weights say."""
    asked = []

    def half(noisy, timestep, context):
        asked.extend(timestep.tolist())
        return torch.zeros_like(noisy)

    clean, context, weight = torch.zeros(60, 4, 8, 8), torch.zeros(60, 1, 1), torch.zeros(60, 1, 8, 8)
    rng = np.random.default_rng
    assert shapes.shape_loss(half, clean, context, weight, rng(0)) == 0
    weight[:, :, :4] = 2.0
    found = float(shapes.shape_loss(half, clean, context, weight, rng(0)))
    assert found == pytest.approx(
        float(shapes.shape_loss(half, clean, context, torch.ones_like(weight), rng(0))), rel=0.05
    )
    assert shapes.FORMED[0] <= min(asked) < shapes.FORMED[0] + 20
    assert shapes.FORMED[1] - 20 < max(asked) < shapes.FORMED[1]


def test_what_was_said_is_kept(base, pools, models, tmp_path):
    """Nothing is to be learned while it says the same; a change counts at other styles' pictures and at its own with
    little noise."""
    pupil = top.Pupil.of(base, models, torch.device("cpu"))
    asked: list[tuple[int, int]] = []
    answer = pupil.answer

    def noted(noisy, timestep, context):
        asked.extend(enumerate(timestep.tolist()))
        return answer(noisy, timestep, context)

    pupil = dataclasses.replace(pupil, answer=noted)
    own, others = pools[128].of("ink"), pools[128].without("ink")
    assert not set(own.seed_of) & set(others.seed_of)
    for seed in range(3):
        assert shapes._kept(pupil, others, own, 1, np.random.default_rng(seed)) == 0
    foreign = [timestep for row, timestep in asked if row < shapes.KEPT_ROWS[0]]
    mine = [timestep for row, timestep in asked if row >= shapes.KEPT_ROWS[0]]
    assert max(foreign) > 750
    assert max(mine) < shapes.FORMED[0]
    with torch.no_grad():
        pupil.unet.out[2].bias += 0.1
    assert shapes._kept(pupil, others, own, 1, np.random.default_rng(0)) > 0


def test_most_noise_holds_a_trace_of_the_picture():
    """Up to 0.6 of it, in seven rows of ten, as large as the noise is."""
    clean, alpha_bar = torch.ones(400, 4, 2, 2), torch.full((400,), 0.36)
    trace = shapes.traced(torch.zeros_like(clean), clean, alpha_bar, np.random.default_rng(0))[:, 0, 0, 0] / 0.8
    some = trace[trace > 0]
    assert len(some) / 400 == pytest.approx(shapes.TRACED, abs=0.07)
    assert 0.55 < some.max() < shapes.TRACE
    assert some.mean() == pytest.approx(shapes.TRACE / 2, abs=0.03)


def test_crowded_scenes_come_as_often_as_they_have_things(pools):
    pool = pools[128]
    rows, _ = pool.pick(np.random.default_rng(0), 3000, style_word=0.0, crowded=True)
    share = np.bincount(rows.numpy(), minlength=6) / 3000
    assert set(pool.things_of) > {1}
    assert share == pytest.approx(pool.things_of / pool.things_of.sum(), abs=0.03)


def test_the_lora_lies_above_the_feature(base, pools, models, tmp_path):
    plan = stage.Plan("lora", tmp_path, 0.5, 1e-3, warmup_steps=1)
    top.train_lora(plan, base, {side: pool.of("ink") for side, pool in pools.items()}, models, torch.device("cpu"))
    names = set(lora.kohya_state(stage.load_state(plan.state_file)["modules"]["lora"]))
    assert names
    everywhere = set(lora.attach(nets.make_unet(), 0))
    inside = {name.split(".")[0] for name in names}
    assert inside < everywhere
    assert all("up_blocks" in name for name in inside)
    assert "lora_unet_up_blocks_1_resnets_1_conv1" not in inside  # decoder block 4
    assert "lora_unet_up_blocks_1_resnets_2_conv1" in inside  # block 5
