"""Replay where others cut a self-attention's tokens, add some, leave rows out, or pass another picture through."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from einops import rearrange

from ditail_ext.core import (
    Injection,
    Region,
    Shortcut,
    SiteKind,
    Surroundings,
    Tiles,
    Window,
    expand_rows,
)
from ditail_ext.errors import InjectionError

OPEN = Window(0, 3)
SOURCES = [2, 0, 0, 1]
"""Of each row that is generated, the source; the first half are the prompt's, the others the negative one's."""
NEGATIVE = [2, 3]
MASK = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)


class Other:
    """What another extension does to each self-attention, and how far it is."""

    def __init__(self, unet):
        self.layers = {name: module for name, module in unet.named_modules() if name.endswith("attn1")}
        self.sizes, self.given = {}, {}
        self.reads = True

    def tiles(self, site):
        """Four, where there are tokens enough."""
        tokens = self.sizes[site.rpartition(".")[0]]
        side = round(tokens**0.5)
        return Tiles(side, side, 2, 2) if side >= 4 else None

    def cut(self, name, own):
        """Hypertile's way."""

        def forward(x, *args, **kwargs):
            self.sizes[name] = x.shape[1]
            tiles = self.tiles(f"{name}.to_q")
            return own(x) if tiles is None else tiles.whole(own(tiles.cut(x)))

        return forward

    def refer(self, name, own):
        """ControlNet's way: another picture's tokens behind the own, and without them for the negative prompt."""

        def forward(x, *args, **kwargs):
            all_rows = own(x, torch.cat([x, torch.ones_like(x)], dim=1))
            all_rows[NEGATIVE] = own(x[NEGATIVE], x[NEGATIVE])
            return all_rows

        return forward

    @contextmanager
    def at_work(self, way, injection=None):
        """With the way in each self-attention's place; noting what the injection's sites give."""
        handles = []
        for site in injection.sites if injection else ():
            note = lambda module, args, output, name=site.name: self.given.setdefault(name, []).append(output.clone())  # noqa: E731
            handles.append(site.module.register_forward_hook(note))
        for name, layer in self.layers.items():
            layer.forward = way(name, layer.forward)
        try:
            yield
        finally:
            for layer in self.layers.values():
                del layer.forward
            for handle in handles:
                handle.remove()


def injected(scene, **options):
    return Injection(scene.target, feature_window=OPEN, attention_window=OPEN, **options)


def record(scene, injection):
    empty = expand_rows(scene.prompts.empty, 3)
    (bank,) = injection.record([0], lambda: scene.predict(scene.three.at(scene.levels[0]), scene.levels[0], empty))
    return bank


def generate(scene):
    rows = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    return scene.predict(rows, scene.levels[0], expand_rows(scene.prompts.positive, 4))


@pytest.mark.parametrize(("down", "across"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_tiles_are_what_hypertile_cuts(down, across):
    whole = torch.randn(2, 4 * 6, 5)
    tiles = Tiles(4, 6, down, across)
    size = {"nh": down, "nw": across, "h": 4 // down, "w": 6 // across}
    expected = rearrange(whole, "b (nh h nw w) c -> (b nh nw) (h w) c", **size)
    assert torch.equal(tiles.cut(whole), expected)
    assert torch.equal(tiles.whole(expected), whole)


def test_queries_and_keys_are_cut_as_the_layer_s_own(scene):
    other = Other(scene.target)
    with injected(scene, surroundings=Surroundings(other.tiles)) as injection:
        bank = record(scene, injection)
        with other.at_work(other.cut, injection), injection.replay(0, bank, SOURCES):
            generate(scene)
    cut = 0
    for site in injection.sites:
        recorded = bank.recorded(site.name)[SOURCES]
        tiles = None if site.kind is SiteKind.FEATURE else other.tiles(site.name)
        cut += tiles is not None
        assert torch.equal(other.given[site.name][-1], recorded if tiles is None else tiles.cut(recorded)), site.name
    assert cut > 0


def test_in_tiles_the_shortcut_gives_the_same(scene):
    made = []
    for shortcut in Shortcut:
        other = Other(scene.target)
        with injected(scene, surroundings=Surroundings(other.tiles), shortcut=shortcut) as injection:
            bank = record(scene, injection)
            with other.at_work(other.cut), injection.replay(0, bank, SOURCES):
                made.append(generate(scene))
    assert torch.allclose(*made, atol=2e-6 * float(made[0].abs().max()))


def test_in_tiles_a_mask_lies_on_the_whole_picture(scene):
    name, given = "output_blocks.5.1.transformer_blocks.0.attn1", []
    for tiled in (True, False):
        other = Other(scene.target)
        other.layers = {name: other.layers[name]}
        tiles = (lambda site, other=other: other.tiles(site) if name in site else None) if tiled else lambda site: None
        with injected(scene, surroundings=Surroundings(tiles), region=Region(MASK)) as injection:
            bank = record(scene, injection)
            way = other.cut if tiled else lambda name, own: own
            with other.at_work(way, injection), injection.replay(0, bank, SOURCES):
                generate(scene)
        given.append([other.given[f"{name}.to_{part}"][-1] for part in "qk"])
    for cut, whole in zip(*given, strict=True):
        assert cut.shape != whole.shape
        assert torch.allclose(Tiles(4, 4, 2, 2).whole(cut), whole, atol=1e-6)


def test_further_tokens_stay_and_rows_that_are_left_out_are_known(scene):
    other = Other(scene.target)
    surroundings = Surroundings(rows=lambda count: NEGATIVE if count == len(NEGATIVE) else None, further=True)
    with injected(scene, surroundings=surroundings) as injection:
        bank = record(scene, injection)
        with other.at_work(other.refer, injection), injection.replay(0, bank, SOURCES):
            generate(scene)
    for site in injection.sites:
        recorded = bank.recorded(site.name)
        if site.kind is SiteKind.FEATURE:
            continue
        everybody, negative = other.given[site.name]
        tokens = recorded.shape[1]
        assert torch.equal(everybody[:, :tokens], recorded[SOURCES])
        assert torch.equal(negative, recorded[[SOURCES[row] for row in NEGATIVE]])
        if site.kind is SiteKind.KEY:
            further = site.module(torch.ones(1, 1, site.module.in_features))
            assert torch.allclose(everybody[:, tokens:], further.expand_as(everybody[:, tokens:]), atol=1e-6)


def test_further_tokens_that_nobody_expects_are_refused(scene):
    other = Other(scene.target)
    with injected(scene) as injection:
        bank = record(scene, injection)
        with (
            other.at_work(other.refer),
            pytest.raises(InjectionError, match="changes the number of tokens"),
            injection.replay(0, bank, SOURCES),
        ):
            generate(scene)


def test_a_pass_over_another_picture_is_left_alone(scene):
    alone = generate(scene)
    with injected(scene) as injection, injection.replay(0, record(scene, injection), SOURCES):
        expected = generate(scene)
    others = [True]
    surroundings = Surroundings(is_own=lambda: not others[0])
    with injected(scene, surroundings=surroundings) as injection:
        bank = record(scene, injection)
        with injection.replay(0, bank, SOURCES):
            assert torch.equal(generate(scene), alone)
            others[0] = False
            assert torch.equal(generate(scene), expected)
    assert not torch.equal(alone, expected)
