from dataclasses import replace

import numpy as np
import pytest

from demo.styles import CHECKPOINT_STYLES, GRAIN, STYLES, draw
from demo.world import BACKGROUNDS, COLOURS, SHAPES, Scene, Thing, caption, distance, make_scene, masks, parse_caption


def lone(shape: str, colour: str = "blue", angle: float = 0.0) -> Scene:
    return Scene((Thing(shape, colour, "large", 0.5, 0.5, 0.25, angle),), "grey", 3)


@pytest.mark.parametrize("style", STYLES)
def test_the_same_seed_draws_the_same_picture(style):
    first, second = (draw(make_scene(11), style, 128) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, draw(make_scene(12), style, 128))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [128, 256])
def test_pictures_are_full_colour_and_of_the_size_asked_for(style, size):
    picture = draw(make_scene(5), style, size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8


def test_masks_are_where_ink_has_colour():
    grain = 255 * GRAIN + 1
    for seed in range(40):
        scene = make_scene(seed)
        picture = draw(scene, "ink", 256).astype(int)
        for thing, mask in zip(scene.things, masks(scene, 256), strict=True):
            inner = distance(thing, 256) < -5
            assert not (inner & ~mask).any()
            if inner.any():
                fill = np.asarray(COLOURS[thing.colour]) * 0.9 + 0.1
                assert np.abs(picture[inner] - 255 * fill).max() <= grain
        outside = np.all([distance(thing, 256) > 5 for thing in scene.things], axis=0)
        paper = 0.35 * np.asarray(BACKGROUNDS[scene.background]) + 0.65
        assert np.abs(picture[outside] - 255 * paper).max() <= grain


@pytest.mark.parametrize("style", CHECKPOINT_STYLES)
def test_no_area_is_the_same_in_every_picture_of_a_layout(style):
    """What never varies has no noise of its own: inversion leaves it flat, and no other checkpoint restyles it."""
    scenes = [replace(make_scene(8), seed=seed) for seed in range(4)]
    cells = np.stack([draw(scene, style, 192) for scene in scenes]).reshape(4, 24, 8, 24, 8, 3).astype(float)
    assert (cells.std(0).max((1, 3, 4)) > 0.5).mean() > 0.97


def test_masks_of_a_scene_do_not_overlap_and_stay_inside():
    for seed in range(100):
        scene = make_scene(seed)
        areas = masks(scene, 128)
        assert areas.sum(0).max() == 1
        assert not areas[:, [0, -1], :].any()
        assert not areas[:, :, [0, -1]].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_signed_distances_grow_by_one_a_pixel_near_the_outline(shape):
    field = distance(lone(shape).things[0], 256)
    slope = np.hypot(*np.gradient(field))
    near = np.abs(field) < 6
    assert abs(np.median(slope[near]) - 1) < 0.05


def test_shapes_differ_in_area():
    areas = {shape: masks(lone(shape), 256).sum() for shape in SHAPES}
    assert len(set(areas.values())) == len(SHAPES)
    assert min(areas.values()) > 0.3 * max(areas.values())


def test_captions_parse_back_to_the_scene():
    for seed in range(300):
        scene = make_scene(seed)
        content = parse_caption(caption(scene, "ink"))
        told = sorted((t.size, t.colour, t.shape) for t in content.things)
        assert told == sorted((t.size, t.colour, t.shape) for t in scene.things)
        assert content.background == scene.background
        assert content.style == "ink"
        assert (content.relation is not None) == (len(scene.things) == 2)
        assert (content.things[0].position is not None) == (len(scene.things) == 1)


def test_optional_words_come_and_go_by_the_generator_alone():
    texts = [caption(make_scene(4), None, np.random.default_rng(seed)) for seed in range(30)]
    assert texts == [caption(make_scene(4), None, np.random.default_rng(seed)) for seed in range(30)]
    assert len(set(texts)) > 1
    for text in texts:
        assert len(parse_caption(text).things) == len(make_scene(4).things)


def test_a_relation_in_a_caption_is_true():
    checked = 0
    for seed in range(200):
        scene = make_scene(seed)
        content = parse_caption(caption(scene))
        if content.relation is None:
            continue
        by_name = {(t.colour, t.shape): t for t in scene.things}
        first, second = (by_name[w.colour, w.shape] for w in content.things)
        assert first.x <= second.x if content.relation == "left of" else first.y <= second.y
        checked += 1
    assert checked > 50


def test_a_text_without_things_is_refused():
    with pytest.raises(ValueError, match="no object"):
        parse_caption("masterpiece, best quality")


def test_styles_differ_in_plain_statistics():
    pictures = {s: np.stack([draw(make_scene(k), s, 128) for k in range(12)]) / 255.0 for s in STYLES}
    brightness = {s: p.mean() for s, p in pictures.items()}
    assert brightness["ink"] > brightness["shaded"] > brightness["neon"] + 0.2
    edges = {s: np.abs(np.diff(p, axis=2)).mean() for s, p in pictures.items()}
    assert edges["mosaic"] > 2 * max(edges[s] for s in STYLES if s != "mosaic")
