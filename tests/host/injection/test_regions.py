"""Regions and blend weights in the WebUI: where the source's structure goes, and where not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness.client import circle, encode
from harness.probe import Probe
from harness.reference import relative
from harness.regions import BETA, NOWHERE, generate, half, inpaint, left, recorded, region, right
from harness.server import WebUI
from PIL import Image

pytestmark = pytest.mark.server("held")

FEATURE = "output_blocks.4.0.out_layers"
"""What holds the layer whose output is replaced: it gives on what injection makes of it."""


def test_outside_the_region_the_injected_layer_is_its_own_bit_for_bit(webui: WebUI, probe: Probe):
    generate(webui, probe, NOWHERE)  # from now on the trajectory is kept, but no features
    plain = generate(webui, probe, NOWHERE, FEATURE)
    injected = generate(webui, probe, region(half()), FEATURE)
    own = next(output for output in plain.watched if len(output) == 2)
    source, given = (next(output for output in injected.watched if len(output) == rows) for rows in (1, 2))
    assert np.array_equal(right(given), right(own))
    for row in given:
        assert np.array_equal(left(row), left(source[0]))
    assert not np.array_equal(left(given), left(own))


def test_half_of_the_picture_is_transferred(webui: WebUI, probe: Probe):
    plain, everywhere, inside = (
        generate(webui, probe, ditail, denoising_strength=1.0).samples[0] for ditail in (NOWHERE, BETA, region(half()))
    )
    assert relative(left(inside), left(everywhere)) < relative(left(inside), left(plain))
    assert relative(right(inside), right(plain)) < relative(right(inside), right(everywhere))


def test_white_is_everywhere_and_grey_is_a_weight(webui: WebUI, probe: Probe):
    everywhere = generate(webui, probe, BETA).samples[0]
    white = generate(webui, probe, region(Image.new("L", (128, 128), 255))).samples[0]
    assert relative(white, everywhere) < 1e-5
    grey = generate(webui, probe, region(Image.new("L", (128, 128), 51))).samples[0]
    weighted = generate(webui, probe, {**BETA, "feature_weight": 0.2, "attention_weight": 0.2}).samples[0]
    assert relative(grey, weighted) < 1e-5
    assert relative(grey, everywhere) > 0.02


def test_several_strengths_in_one_mask(webui: WebUI, probe: Probe):
    """Each half follows its own strength more than the other's."""
    both = half()
    both.paste(64, (64, 0, 128, 128))
    strong, weak, mixed = (
        generate(webui, probe, region(mask), denoising_strength=1.0).samples[0]
        for mask in (Image.new("L", (128, 128), 255), Image.new("L", (128, 128), 64), both)
    )
    assert relative(left(mixed), left(strong)) < relative(left(mixed), left(weak))
    assert relative(right(mixed), right(weak)) < relative(right(mixed), right(strong))


@pytest.mark.parametrize("inverted", [0, 1])
@pytest.mark.parametrize("area", ["whole picture", "only masked"])
def test_the_inpaint_mask_inside_and_outside(webui: WebUI, probe: Probe, area: str, inverted: int):
    """Each is the same as the mask of that area given by hand."""
    mask = Image.new("L", (128, 128))
    mask.paste(255, (16, 32, 80, 96))
    mask.paste(0, (32, 32, 64, 72))
    request = inpaint(mask, inpaint_full_res=area == "only masked", inpainting_mask_invert=inverted)
    painted = {"inpaint mask": mask, "outside inpaint mask": mask.point(lambda grey: 255 - grey)}
    if inverted:
        painted = dict(zip(painted, reversed(painted.values()), strict=True))
    found = {}
    for name, by_hand in painted.items():
        if area == "only masked" and not inverted:
            by_hand.paste(128, (0, 0, 8, 8))  # what lies outside of the cut has no part
        found[name] = generate(webui, probe, {**BETA, "region": name, "region_blur": 0}, **request).samples[0]
        assert relative(found[name], generate(webui, probe, region(by_hand), **request).samples[0]) < 1e-5
    assert relative(found["inpaint mask"], found["outside inpaint mask"]) > 1e-3


def test_inpainting_keeps_what_it_must_for_each_image_of_a_batch(webui: WebUI, probe: Probe):
    mask = Image.new("L", (128, 128))
    mask.paste(255, (0, 0, 128, 64))
    ditail = {**BETA, "region": "inpaint mask"}
    batches = generate(webui, probe, ditail, batch_size=2, n_iter=2, **inpaint(mask))
    images = [image for batch in batches.samples for image in batch]
    for index, image in enumerate(images):
        assert np.array_equal(image[:, 8:], batches.init_latents[0][index % 2][:, 8:])
        alone = generate(webui, probe, ditail, seed=7 + index, **inpaint(mask)).samples[0][0]
        assert relative(image[:, :8], alone[:, :8]) < 1e-4
    plain = generate(webui, probe, NOWHERE, **inpaint(mask)).samples[0][0]
    assert relative(images[0][:, :8], plain[:, :8]) > 0.01


def test_a_mask_serves_several_pictures_of_a_batch(webui: WebUI, probe: Probe):
    pictures = [encode(circle(128, 128)), encode(circle(128, 128, (20, 200, 60)))]
    both = generate(webui, probe, region(half()), init_images=pictures, batch_size=2)
    for index, picture in enumerate(pictures):
        alone = generate(webui, probe, region(half()), init_images=[picture], seed=7 + index)
        assert relative(both.samples[0][index], alone.samples[0][0]) < 1e-4


@pytest.mark.parametrize("txt2img", [False, True])
def test_the_mask_is_cut_as_the_picture_is(webui: WebUI, probe: Probe, txt2img: bool):
    wide = Image.new("RGB", (256, 128), "grey")
    wide.paste(circle(128, 128), (64, 0))
    mask = half((256, 128))
    cut = [picture.crop((64, 0, 192, 128)) for picture in (wide, mask)]
    found = []
    for picture, own in ((wide, mask), cut):
        ditail = region(own, **({"picture": encode(picture)} if txt2img else {}))
        more = {} if txt2img else {"init_images": [encode(picture)], "resize_mode": 1}
        found.append(generate(webui, probe, ditail, txt2img=txt2img, **more).samples[0])
    assert relative(found[0], found[1]) < 1e-5


@pytest.mark.parametrize("shape", [{"resize_mode": 2}, {"resize_mode": 3}, {"width": 131, "height": 125}, {}])
def test_other_shapes_and_another_size_of_the_mask(webui: WebUI, probe: Probe, shape: dict[str, Any]):
    request = {"width": 192, "height": 128, **shape}
    one, twice = (
        generate(webui, probe, region(half((side, side)), region_blur=4), **request).samples[0] for side in (128, 256)
    )
    assert relative(one, twice) < 1e-3
    assert relative(one, generate(webui, probe, BETA, **request).samples[0]) > 1e-3


@pytest.mark.parametrize(
    "request_of",
    [{"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7}, {"n_iter": 2}],
)
def test_txt2img_with_a_region(webui: WebUI, probe: Probe, request_of: dict[str, Any]):
    ditail = region(half(), picture=encode(circle(128, 128)))
    found = generate(webui, probe, ditail, txt2img=True, **request_of)
    assert recorded(found) > 0
    assert all(np.isfinite(latents).all() for latents in found.samples)
