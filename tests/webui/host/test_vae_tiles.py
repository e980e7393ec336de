"""A source's VAE works in the target's tiles, and is told from one that does not."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from ditail_ext.webui.host.vae_tiles import tiled_as, tiles_of

X = torch.ones(1, 4)


class Halves:
    """Puts itself for a layer's ``forward``, as Tiled VAE does."""

    def __init__(self, net: nn.Module, size: int) -> None:
        self.net, self.size = net, size

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.net.original_forward(x)


def model(seed: int) -> SimpleNamespace:
    torch.manual_seed(seed)
    return SimpleNamespace(first_stage_model=SimpleNamespace(encoder=nn.Linear(4, 4), decoder=nn.Linear(4, 4)))


def tile(part: nn.Module, size: int = 64) -> None:
    part.original_forward = part.forward
    part.forward = Halves(part, size)


def test_the_source_works_in_the_targets_tiles_and_with_its_own_weights():
    target, source = model(1), model(2)
    encoder = source.first_stage_model.encoder
    expected, before = 2 * encoder(X), dict(vars(encoder))
    tile(target.first_stage_model.encoder)
    with tiled_as(target, source):
        assert torch.equal(encoder(X), expected)
        assert torch.equal(source.first_stage_model.decoder(X), nn.Linear.forward(source.first_stage_model.decoder, X))
    assert vars(encoder) == before
    assert torch.equal(2 * encoder(X), expected)


def test_without_tiles_nothing_is_touched():
    target, source = model(1), model(2)
    target.first_stage_model.encoder.forward = target.first_stage_model.encoder.forward  # put back, bound
    with tiled_as(target, source):
        assert "forward" not in vars(source.first_stage_model.encoder)
    assert tiles_of(target, "encoder") is None


def test_the_target_itself_keeps_what_it_has():
    target = model(1)
    tile(target.first_stage_model.encoder)
    theirs = target.first_stage_model.encoder.forward
    with tiled_as(target, target):
        assert target.first_stage_model.encoder.forward is theirs
    assert target.first_stage_model.encoder.forward is theirs


def test_tiles_are_told_by_their_kind_and_size():
    one, same, other = model(1), model(2), model(3)
    for each, size in ((one, 64), (same, 64), (other, 96)):
        tile(each.first_stage_model.encoder, size)
    assert tiles_of(one, "encoder") == tiles_of(same, "encoder") != tiles_of(other, "encoder")
    assert tiles_of(one, "decoder") is None
    assert tiles_of(SimpleNamespace(), "encoder") is None
