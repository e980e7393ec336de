"""Fine-tunes and the LoRA leave the bottom as it is."""

import numpy as np
import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("transformers")

from demo import lora, nets, parts
from demo.train import bottom, stage, top
from demo.train.unet import Pool


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


def test_a_fine_tune_changes_what_lies_above_the_feature_and_nothing_else(base, pools, models, tmp_path):
    plan = stage.Plan("style-ink", tmp_path, 0.5, 1e-3, warmup_steps=1)
    top.train_style(plan, base, pools, "ink", models, torch.device("cpu"))
    before = stage.load_state(base)["averages"]["unet"]
    after = stage.load_state(plan.state_file)["modules"]["unet"]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    places = {".".join(name.split(".")[:2]) if name.startswith("output") else name.split(".")[0] for name in changed}
    assert places == {f"output_blocks.{k}" for k in range(5, 12)} | {"out"}


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
