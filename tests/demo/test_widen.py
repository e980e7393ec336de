"""A wider bottom that says the same, and whose pairs of channels can part ways."""

import pytest
import torch

pytest.importorskip("ldm")

from demo import nets
from demo.train import bottom, widen


@pytest.fixture(scope="module")
def both():
    torch.manual_seed(0)
    narrow, head = nets.make_unet(nets.NARROW_UNET_CONFIG), bottom.make_head(widen.NARROW)
    for parameter in narrow.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)  # branches that ldm starts silent
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float(parameter.mean() > 0), std=0.1)
    bottom.silence(narrow)
    states = widen.widen_all({"unet": narrow.state_dict(), "head": head.state_dict()}, 0)
    wide, wide_head = nets.make_unet(), bottom.make_head(widen.WIDE)
    wide.load_state_dict(states["unet"])
    wide_head.load_state_dict(states["head"])
    return narrow.eval(), head, wide.eval(), wide_head


@pytest.fixture(scope="module")
def seen():
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(2, 77, nets.UNET_CONFIG["context_dim"], generator=generator)
    return torch.randn(2, 4, 16, 16, generator=generator), torch.tensor([300, 800]), context


@torch.no_grad()
def test_the_feature_is_there_twice_and_the_head_reads_the_same(both, seen):
    narrow, head, wide, wide_head = both
    below, more = bottom.bottom(narrow, *seen), bottom.bottom(wide, *seen)
    assert more.shape == (2, widen.WIDE, 4, 4)
    assert torch.allclose(more, below.repeat_interleave(2, 1), atol=1e-4 * float(below.abs().max()))
    assert torch.allclose(wide_head(more), head(below), atol=1e-4)
    assert below.std() > 0.1


@torch.no_grad()
def test_what_is_silent_stays_silent(both):
    wide = both[2]
    assert not any(parameter.any() for parameter in wide.output_blocks[bottom.BLOCK][0].skip_connection.parameters())
    for number in bottom.SILENT:
        assert not any(p.any() for p in wide.input_blocks[number][0].out_layers[3].parameters())


def test_the_pairs_get_gradients_of_their_own(both, seen):
    wide, wide_head = both[2:]
    wide_head(bottom.bottom(wide, *seen)).square().mean().backward()
    grad = wide.middle_block[0].in_layers[2].weight.grad
    assert (grad[0::2] - grad[1::2]).abs().max() > 0.1 * grad.abs().max()
    wide.zero_grad()


def test_a_weight_that_cannot_grow_so_is_an_error():
    old = torch.ones(4, 4)
    with pytest.raises(ValueError, match="4, 4"):
        widen.widen(old, torch.Size((4, 12)), torch.Generator())
