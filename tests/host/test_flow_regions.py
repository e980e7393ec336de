"""Windows, blend weights and regions in the WebUI: where the source's structure goes, and where not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flow_reference import relative
from harness.client import Answer, circle, encode
from harness.probe import Probe, Records
from harness.server import WebUI
from PIL import Image

BETA = {"source_checkpoint": "beta.safetensors"}
NOWHERE = {**BETA, "feature_ratio": 0.0, "attention_ratio": 0.0}
FEATURE = "output_blocks.4.0.out_layers"
"""What holds the layer whose output is replaced: it gives on what injection makes of it."""


def half(size: tuple[int, int] = (128, 128), bright: int = 255) -> Image.Image:
    """Bright on the left."""
    mask = Image.new("L", size)
    mask.paste(bright, (0, 0, size[0] // 2, size[1]))
    return mask


def region(mask: Image.Image, **more: Any) -> dict[str, Any]:
    return {**BETA, "mask": encode(mask), "region_blur": 0, **more}


def inpaint(mask: Image.Image, **more: Any) -> dict[str, Any]:
    """The API's defaults are those of "only masked"."""
    return {"mask": encode(mask), "inpainting_fill": 1, "mask_blur": 0, "inpaint_full_res": False, **more}


def generate(
    webui: WebUI, probe: Probe, ditail: dict[str, Any], watch: str | None = None, *, txt2img: bool = False, **more: Any
) -> Records:
    probe.reset(watch=watch)
    answer = (webui.txt2img if txt2img else webui.img2img)(ditail, **more)
    assert answer.status == 200, answer.body
    return probe.records()


def recorded(records: Records) -> int:
    return sum(call.output is None for call in records.calls)


def left(latents: np.ndarray) -> np.ndarray:
    return latents[..., : latents.shape[-1] // 2]


def right(latents: np.ndarray) -> np.ndarray:
    return latents[..., latents.shape[-1] // 2 :]


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
    pictures = [encode(circle()), encode(circle(colour=(20, 200, 60)))]
    both = generate(webui, probe, region(half()), init_images=pictures, batch_size=2)
    for index, picture in enumerate(pictures):
        alone = generate(webui, probe, region(half()), init_images=[picture], seed=7 + index)
        assert relative(both.samples[0][index], alone.samples[0][0]) < 1e-4


@pytest.mark.parametrize("txt2img", [False, True])
def test_the_mask_is_cut_as_the_picture_is(webui: WebUI, probe: Probe, txt2img: bool):
    wide = Image.new("RGB", (256, 128), "grey")
    wide.paste(circle(), (64, 0))
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


@pytest.mark.parametrize("tab", ["img2img", "txt2img"])
def test_the_round_trip_of_a_mask(webui: WebUI, tab: str):
    """All but the mask itself is in the infotext; given again, it makes the same picture."""
    generate: Any = getattr(webui, tab)
    pictures = {"mask": encode(half())} | ({"picture": encode(circle())} if tab == "txt2img" else {})
    first: Answer = generate({**BETA, **pictures, "region_blur": 9, "feature_start": 0.2, "attention_weight": 0.5})
    assert first.status == 200, first.body
    assert "Ditail region: region mask, Ditail region blur: 9" in first.infotext
    for part in ("Ditail feature start: 0.2", "Ditail attention weight: 0.5", "Ditail mask: "):
        assert part in first.infotext
    assert "Ditail feature weight" not in first.infotext

    again = generate(pictures, infotext=first.infotext)
    assert again.status == 200, again.body
    assert again.infotext == first.infotext
    difference = np.asarray(again.pictures[0], int) - np.asarray(first.pictures[0], int)
    assert np.abs(difference).max() <= 1  # img2img's picture is encoded with random noise, which then cancels

    other = generate({**pictures, "mask": encode(half(bright=200))}, infotext=first.infotext)
    assert hash_of(other) != hash_of(first)
    without = generate({name: value for name, value in pictures.items() if name != "mask"}, infotext=first.infotext)
    assert without.status == 422
    assert "there is no mask" in without.sentence


def hash_of(answer: Answer) -> str:
    return answer.infotext.split("Ditail mask: ")[1].split(",")[0]


def test_the_inpaint_region_pastes_back(webui: WebUI):
    first = webui.img2img({**BETA, "region": "outside inpaint mask"}, **inpaint(half()))
    assert "Ditail region: outside inpaint mask" in first.infotext
    again = webui.img2img(infotext=first.infotext, **inpaint(half()))
    assert "Ditail region: outside inpaint mask" in again.infotext


def test_a_mask_without_part_is_said(webui: WebUI):
    answer = webui.img2img({**BETA, "mask": encode(half()), "region": "everywhere"})
    assert "Ditail mask: not used" in answer.infotext


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "other proportions": ({"mask": encode(half((128, 96)))}, "128x96, but the picture 128x128"),
    "black": ({"mask": encode(Image.new("L", (128, 128)))}, "Nothing would be injected"),
    "no picture": ({"mask": "?"}, "mask is not valid base64"),
    "no mask": ({"region": "region mask"}, "there is no mask"),
    "no inpaint mask": ({"region": "inpaint mask"}, "no inpaint mask"),
}


@pytest.mark.parametrize("tab", ["img2img", "txt2img"])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_region_is_refused(webui: WebUI, tab: str, case: str):
    ditail, says = WRONG[case]
    picture = {"picture": encode(circle())} if tab == "txt2img" else {}
    answer = getattr(webui, tab)({**BETA, **ditail, **picture})
    assert answer.status == 422, answer.body
    assert says in answer.sentence


def test_stated_defaults_are_the_defaults(webui: WebUI, probe: Probe):
    stated = {"feature_start": 0.0, "attention_start": 0, "feature_weight": 1, "attention_weight": 1.0}
    first = generate(webui, probe, BETA)
    again = generate(webui, probe, {**BETA, **stated, "region": "everywhere"})
    assert relative(again.samples[0], first.samples[0]) < 1e-6


def test_nothing_is_recorded_where_no_window_is_open(webui: WebUI, probe: Probe):
    """6 steps at strength 0.75 are 3 of DDIM's."""
    counts = {}
    for name, change in {
        "all": {},
        "from the second": {"feature_start": 0.34, "attention_start": 0.34},
        "features of the third": {"feature_ratio": 1.0, "feature_start": 0.67, "attention_ratio": 0.0},
        "no features": {"feature_weight": 0.0},
        "nothing": {"feature_weight": 0.0, "attention_weight": 0.0},
    }.items():
        webui.post("/ditail/v1/cache/clear")
        everything = {**BETA, "feature_ratio": 1.0, "attention_ratio": 0.67}
        counts[name] = recorded(generate(webui, probe, {**everything, **change}))
    assert counts == {"all": 3, "from the second": 2, "features of the third": 1, "no features": 2, "nothing": 0}


def test_an_empty_window_is_said(webui: WebUI):
    answer = webui.img2img({**BETA, "attention_start": 0.5})
    assert 'Ditail injection: "no attention, no step lies in its window"' in answer.infotext


def test_kept_features_serve_other_weights_and_regions(webui: WebUI, probe: Probe):
    changes = [{"feature_weight": 0.4}, {"attention_weight": 0.4}, {"mask": encode(half())}, {"attention_start": 0.3}]
    webui.post("/ditail/v1/cache/clear")
    assert recorded(generate(webui, probe, BETA)) > 0
    kept = [generate(webui, probe, {**BETA, **change}) for change in changes]
    assert [recorded(found) for found in kept] == [0] * len(changes)
    for change, found in zip(changes, kept, strict=True):
        webui.post("/ditail/v1/cache/clear")
        assert relative(found.samples[0], generate(webui, probe, {**BETA, **change}).samples[0]) < 1e-5


@pytest.mark.parametrize(
    "request_of",
    [{"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7}, {"n_iter": 2}],
)
def test_txt2img_with_a_region(webui: WebUI, probe: Probe, request_of: dict[str, Any]):
    ditail = region(half(), picture=encode(circle()))
    found = generate(webui, probe, ditail, txt2img=True, **request_of)
    assert recorded(found) > 0
    assert all(np.isfinite(latents).all() for latents in found.samples)
