"""Small pools, a silenced UNet's state and a text encoder of lengths, for the trainings above the bottom."""

import numpy as np
import pytest
import torch


class Words:
    """A vocabulary of lengths."""

    def batch(self, texts, rng=None):
        return torch.tensor([[len(text)] * 77 for text in texts])


class Text(torch.nn.Module):
    """Embeddings that are the rows, wide."""

    def forward(self, rows):
        from demo.nets import UNET_CONFIG

        return rows.float()[..., None].expand(-1, -1, UNET_CONFIG["context_dim"]) / 100


@pytest.fixture(scope="module")
def models():
    from demo import parts

    return parts.Models(None, Text(), None, Words(), 1.0)


@pytest.fixture(scope="module")
def pools():
    from demo.train.unet import Pool

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
    from demo import nets
    from demo.train import bottom

    torch.manual_seed(0)
    unet = nets.make_unet()
    for parameter in unet.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    bottom.silence(unet)
    path = tmp_path_factory.mktemp("base") / "whole.pt"
    torch.save({"averages": {"unet": unet.state_dict()}}, path)
    return path
