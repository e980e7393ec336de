"""Fine-tunes and the LoRA leave the bottom as it is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("transformers")

from demo import lora, nets, parts
from demo.train import bottom, stage, top


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


def test_a_fine_tune_is_what_its_last_stage_leaves(tmp_path, monkeypatch):
    kept = {}
    monkeypatch.setattr(parts, "save_fine_tune", lambda out, style, unet: kept.update({style: float(unet["w"])}))
    monkeypatch.setattr(parts.latents, "scale_factor", lambda *_: 1.0)
    words = SimpleNamespace(clip_ids=[])
    for value, stem in ((1.0, "style-ink"), (2.0, "mistakes-ink"), (3.0, "style-mosaic")):
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


def test_rows_come_as_often_as_they_are_to(pools):
    pool = pools[128]
    rows, _ = pool.pick(np.random.default_rng(0), 3000, style_word=0.0, often=pool.things_of)
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
