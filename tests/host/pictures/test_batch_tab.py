"""The img2img Batch tab: a folder of pictures, each inverted for itself, and only once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness.client import SQUARE, circle, encode
from harness.pages.tab import BATCH, Img2ImgTab, Shown
from harness.probe import Probe, Records
from harness.server import WebUI
from harness.state import options, unchanged_host
from PIL import Image, PngImagePlugin

BETA = {"source_checkpoint": "beta.safetensors"}
COLOURS = ((220, 40, 40), (40, 220, 40), (40, 40, 220), (220, 220, 40), (40, 220, 220))
LEVELS = 3
"""Of the usual request: 6 steps at 0.75, of which DDIM makes 3; and so UNet calls of an inversion."""

SAVING = {"samples_save": True}


@pytest.fixture(scope="module")
def tab(webui: WebUI) -> Img2ImgTab:
    return Img2ImgTab(webui)


@pytest.fixture(autouse=True)
def _names_of_files(webui: WebUI) -> Iterator[None]:
    """The tab overrides these options, and the WebUI restores none that was never saved."""
    with options(
        webui, {"samples_filename_pattern": "", "save_to_dirs": True, "save_images_replace_action": "Replace"}
    ):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures, the third of which is transparent around its disc."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, colour in enumerate(COLOURS):
        picture = circle(128, 128, colour)
        if number == 2:
            picture.putalpha(circle(128, 128, (255, 255, 255)).convert("L").point(lambda grey: 255 * (grey > 128)))
        picture.save(folder / f"picture {number}.png")
    return folder


def keep(folder: Path, count: int) -> list[Path]:
    """Only the first so many pictures."""
    files = sorted(folder.iterdir())
    for file in files[count:]:
        file.unlink()
    return files[:count]


def press(tab: Img2ImgTab, folder: Path, ditail: dict[str, Any] | None = None, **values: Any) -> Shown:
    where = {"source_type": "from dir", "img2img_batch_input_dir": str(folder)}
    return tab.press(BATCH, BETA if ditail is None else ditail, **where, **values)


def alone(webui: WebUI, file: Path, ditail: dict[str, Any] | None = None, **request: Any) -> bytes:
    """What one request makes of a file."""
    answer = webui.img2img(ditail or BETA, init_images=[encode(Image.open(file))], **{**SQUARE, **request})
    assert answer.status == 200, answer.body
    return answer.pixels[0]


def pixels(file: Path) -> bytes:
    return Image.open(file).convert("RGB").tobytes()


def inversions(records: Records) -> float:
    """How often a picture was inverted, by the UNet calls of the source."""
    return sum(not call.sampling for call in records.calls) / LEVELS


def test_each_picture_is_inverted_and_the_second_run_inverts_nothing(
    webui: WebUI, probe: Probe, tab: Img2ImgTab, folder: Path
):
    with unchanged_host(webui):
        probe.reset()
        first = press(tab, folder)
        records = probe.records()
        assert len(first.pictures) == inversions(records) == 5
        assert records.loads == ["beta.safetensors"]
        assert webui.get("/ditail/v1/cache").body["inversions"] == 5
        probe.reset()
        second = press(tab, folder)
        records = probe.records()
        assert inversions(records) == 0
        assert records.loads == records.reuses == []
        assert second.pixels == first.pixels
    webui.post("/ditail/v1/cache/clear")
    assert first.pixels == [alone(webui, file) for file in sorted(folder.iterdir())]
    assert len(set(first.pixels)) == 5


def test_where_no_source_may_wait_it_is_loaded_for_each_picture(
    webui: WebUI, probe: Probe, tab: Img2ImgTab, folder: Path
):
    expected = press(tab, folder).pixels
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    with options(webui, {"ditail_models_mb": 0}):
        shown = press(tab, folder)
        records = probe.records()
    assert inversions(records) == 5
    assert records.loads == ["beta.safetensors"] * 5
    assert shown.pixels == expected


def test_batch_size_and_count_invert_each_picture_once(
    webui: WebUI, probe: Probe, tab: Img2ImgTab, folder: Path, tmp_path: Path
):
    """The host hands a picture over once for each image of a batch; it is one picture all the same."""
    pictures, out = keep(folder, 2), tmp_path / "out"
    expected = set()
    for picture in pictures:
        request = {"batch_size": 2, "n_iter": 2, "init_images": [encode(Image.open(picture))]}
        expected |= set(
            webui.img2img(BETA, sampler_name="Euler a", **SQUARE, **request).pixels[-4:]
        )  # the first is a grid
    together = probe.records()
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    sizes = {"img2img_batch_size": 2, "img2img_batch_count": 2, "img2img_sampling": "Euler a"}
    with options(webui, SAVING):
        press(tab, folder, img2img_batch_output_dir=str(out), **sizes)
    records = probe.records()
    calls, expected_calls = ([(call.rows, call.sampling) for call in run.calls] for run in (records, together))
    assert calls == expected_calls
    assert inversions(records) > 0
    assert len(list(out.iterdir())) == 8
    assert {pixels(file) for file in out.iterdir()} == expected
    assert len(expected) == 8


def test_each_picture_has_its_own_mask(webui: WebUI, tab: Img2ImgTab, folder: Path, tmp_path: Path):
    """And where the region is the inpaint mask, its own region."""
    pictures, masks = keep(folder, 2), tmp_path / "masks"
    masks.mkdir()
    for number, picture in enumerate(pictures):
        mask = Image.new("L", (128, 128))
        mask.paste(255, (64 * number, 0, 64 * number + 64, 128))
        mask.save(masks / picture.name)
    inside = {**BETA, "region": "inpaint mask"}
    alone(webui, pictures[0])  # the host's encoding goes on with the random numbers of the generation before
    shown = press(tab, folder, inside, img2img_batch_inpaint_mask_dir=str(masks))
    request = {"inpainting_fill": 1, "inpaint_full_res": False, "mask_blur": 4}
    for number, picture in enumerate(pictures):
        mask = encode(Image.open(masks / picture.name))
        assert shown.pixels[number] == alone(webui, picture, inside, mask=mask, **request)
        kept = slice(96, 128) if number == 0 else slice(0, 32)
        found, given = (np.asarray(image)[:, kept].astype(int) for image in (shown.pictures[number], circle(128, 128)))
        assert abs(found - given).max() <= 1  # grey beside every disc


PARAMETERS = (
    "a blue square\nNegative prompt: green\nSteps: 9, Sampler: Euler a, CFG scale: 3, Seed: 11, Size: 128x128, "
    "Ditail: True, Ditail positive scale: 9"
)


def test_png_info_of_a_picture_holds_for_it_alone(webui: WebUI, tab: Img2ImgTab, folder: Path, tmp_path: Path):
    """What the first picture's parameters bring about is not said of the second, which has none."""
    pictures, out = keep(folder, 2), tmp_path / "out"
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", PARAMETERS)
    Image.open(pictures[0]).save(pictures[0], pnginfo=text)
    takes = ["Prompt", "Negative prompt", "Seed", "CFG scale", "Sampler", "Steps"]
    with options(webui, SAVING):
        press(
            tab,
            folder,
            img2img_batch_output_dir=str(out),
            img2img_batch_use_png_info=True,
            png_info_props=takes,
        )
    first, second = (Image.open(out / picture.name) for picture in pictures)
    assert 'Ditail start: "not preserved' in first.info["parameters"]
    assert "Ditail start" not in second.info["parameters"]
    assert "Ditail positive scale: 3.0" in first.info["parameters"]  # the panel's: the host takes no other
    told = {"prompt": "a red circle a blue square", "negative_prompt": "blue green"}
    assert first.tobytes() == alone(webui, pictures[0], **told, steps=9, sampler_name="Euler a", cfg_scale=3, seed=11)
    assert second.tobytes() == alone(webui, pictures[1])


def test_a_folder_larger_than_the_cache(webui: WebUI, probe: Probe, tab: Img2ImgTab, folder: Path):
    """The pictures are the same; with room on disk nothing is inverted again, without it everything."""
    try:
        first = press(tab, folder)
        with options(webui, {"ditail_cache_mb": 0, "ditail_disk_cache_mb": 64}):
            webui.post("/ditail/v1/cache/clear")
            for times in (5, 0):
                probe.reset()
                assert press(tab, folder).pixels == first.pixels
                assert inversions(probe.records()) == times
        with options(webui, {"ditail_cache_mb": 0}):
            webui.post("/ditail/v1/cache/clear")
            for _ in range(2):
                probe.reset()
                assert press(tab, folder).pixels == first.pixels
                assert inversions(probe.records()) == 5
                assert webui.get("/ditail/v1/cache").body["inversions"] == 0
    finally:
        webui.post("/ditail/v1/cache/clear")


def test_skip_leaves_out_one_picture(webui: WebUI, probe: Probe, tab: Img2ImgTab, folder: Path):
    with unchanged_host(webui):
        whole = press(tab, folder)
        webui.post("/ditail/v1/cache/clear")
        one = 2 * LEVELS + len(_recorded(probe.records())) // 5
        probe.reset(stop_at=one + 2, stop="skip")  # while the second is inverted
        shown = press(tab, folder)
        assert shown.pixels == [whole.pixels[index] for index in (0, 2, 3, 4)]
        probe.reset()
        assert press(tab, folder).pixels == whole.pixels
        assert inversions(probe.records()) == 1


def _recorded(records: Records) -> list[Any]:
    return [call for call in records.calls if call.sampling and call.output is None]


def test_a_refusal_ends_the_folder_with_its_sentence(webui: WebUI, tab: Img2ImgTab, folder: Path):
    with unchanged_host(webui):
        shown = press(tab, folder, {**BETA, "region": "inpaint mask"})
        assert "this request has no inpaint mask" in shown.log
        assert shown.pictures == []


def test_twenty_pictures_are_one_load(webui: WebUI, probe: Probe, tab: Img2ImgTab, tmp_path: Path):
    folder = tmp_path / "twenty"
    folder.mkdir()
    for number in range(20):
        circle(128, 128, (240 - 10 * number, 40, 10 * number)).save(folder / f"picture {number:02}.png")
    with unchanged_host(webui):
        probe.reset()
        shown = press(tab, folder)
        records = probe.records()
    assert records.loads == ["beta.safetensors"]
    assert records.reuses == []
    assert len(shown.pictures) == inversions(records) == 20
    assert len(set(shown.pixels)) == 20
