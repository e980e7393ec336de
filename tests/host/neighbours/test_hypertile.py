"""The host's own Hypertile: queries and keys are injected into its tiles, as many as it draws in each call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.beside import SOURCES, ask, inverted, recorded
from harness.client import circle, encode
from harness.neighbours import apart
from harness.probe import Probe
from harness.server import Setup, WebUI
from harness.state import options, unchanged_host

pytestmark = pytest.mark.server("held")

SIZE = {"width": 256, "height": 256, "init_images": [encode(circle(256, 256))]}
WIDE = {"width": 384, "height": 256, "init_images": [encode(circle(384, 256))]}
TILES = {"hypertile_enable_unet": True, "hypertile_max_tile_unet": 128, "hypertile_swap_size_unet": 3}
LAYER = "output_blocks.9.1.transformer_blocks.0.attn1.to_v"


@pytest.fixture(scope="module")
def without_ditail(model_files: Path, webui: WebUI) -> Iterator[WebUI]:
    other = WebUI(model_files, Setup(folder=""))
    other.with_alpha()  # the first picture of all
    yield other
    other.stop()


@pytest.mark.parametrize("size", [SIZE, WIDE], ids=["square", "wide"])
@pytest.mark.parametrize("source", SOURCES)
def test_both_effects_and_nothing_else(webui: WebUI, probe: Probe, source: str, size: dict[str, Any]):
    ditail = SOURCES[source]
    with options(webui, TILES):
        ask(webui, None, size)  # its wrappers stay on the layers for ever
    with unchanged_host(webui):
        ordinary, plain = webui.txt2img().pixels, ask(webui, None, size)
        probe.reset()
        alone, before = ask(webui, ditail, size), probe.records()
        with options(webui, TILES):
            only = ask(webui, None, size)
            probe.reset()
            both, beside = ask(webui, ditail, size), probe.records()
        assert both.status == 200, both.body
        assert apart(only, plain) > 0
        assert min(apart(both, other) for other in (alone, only, plain)) > 0
        assert inverted(beside) == inverted(before)
        assert recorded(beside) == recorded(before) > 0
        assert len(beside.calls) == len(before.calls)
        again = ask(webui, ditail, size)
        assert again.pixels == alone.pixels
        assert webui.txt2img().pixels == ordinary


def test_the_same_request_twice_draws_the_same_and_records_once(webui: WebUI, probe: Probe):
    """What is kept was recorded without it, and serves with it."""
    alone = ask(webui, SOURCES["itself"], SIZE)
    with options(webui, TILES):
        probe.reset()
        first = webui.img2img(SOURCES["itself"], **SIZE)
        records = probe.records()
        assert all(call.sampling for call in records.calls)
        assert recorded(records) == 0
        assert webui.img2img(SOURCES["itself"], **SIZE).pixels == first.pixels != alone.pixels
        assert ask(webui, SOURCES["itself"], SIZE).pixels == first.pixels, "of an empty cache"
    assert webui.img2img(SOURCES["itself"], **SIZE).pixels == alone.pixels


def test_each_call_draws_its_tiles_and_the_record_pass_has_none(webui: WebUI, probe: Probe):
    tokens = SIZE["width"] * SIZE["height"] // 64
    with options(webui, TILES):
        probe.reset(watch=LAYER)
        ask(webui, {**SOURCES["itself"], "attention_ratio": 1.0}, SIZE)  # no record pass ends before the layer
        watched, calls = probe.records().watched, probe.records().calls
    assert len(watched) == len(calls)
    layouts = set()
    for layer, call in zip(watched, calls, strict=True):
        tiles = tokens // layer.shape[1]
        assert layer.shape[0] == call.rows * tiles
        if call.sampling and call.output is not None:
            layouts.add(tiles)
        else:
            assert tiles == 1
    assert len(layouts) > 1, "it draws anew"
    probe.reset()


def test_a_mask_and_a_weight_lie_on_the_whole_picture(webui: WebUI, probe: Probe):
    """Without any effect the tiles are Hypertile's alone; with them, what the mask leaves out is."""
    none = {**SOURCES["itself"], "attention_weight": 0.0, "feature_weight": 0.0}
    weak = {**SOURCES["itself"], "attention_weight": 1e-6, "feature_weight": 0.0}
    with options(webui, TILES):
        expected, found, whole = (ask(webui, each, SIZE) for each in (none, weak, SOURCES["itself"]))
    assert apart(found, expected) < 0.1 < apart(whole, expected)


def test_with_ditail_off(webui: WebUI, without_ditail: WebUI):
    made = []
    for client, ditail in ((webui, {"enabled": False}), (without_ditail, None)):
        with options(client, TILES):
            made.append(ask(client, ditail, SIZE).pixels)
        ask(client, None, SIZE)
    assert made[0] == made[1]
