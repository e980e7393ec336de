"""The grid script: every model's content in every model's style."""

from __future__ import annotations

import shutil

import pytest
from harness.client import circle, encode
from harness.grids import HIGH, NAMES, SHORT, WIDE, cells, grid
from harness.models.checkpoints import LORA
from harness.plot import arguments
from harness.probe import Probe
from harness.server import WebUI
from harness.state import options, unchanged_host
from PIL import Image

STEMS = ["alpha", "beta", "gamma"]
NO_INJECTION = {"feature_ratio": 0.0, "attention_ratio": 0.0}


def test_nine_cells_and_the_sheet(webui: WebUI, probe: Probe):
    with unchanged_host(webui):
        probe.reset()
        answer = grid(webui, ditail={"positive_scale": 2.0})
        made = cells(answer)
        assert len(made) == len(set(made)) == 9
        records = probe.records()
        assert records.loads == ["beta.safetensors", "gamma.safetensors"]  # beside alpha; then they change places
        assert records.reuses == []
        assert len(records.samples) == 9
    texts = answer.info["infotexts"]
    for index, text in enumerate(texts[1:]):
        source, target = STEMS[index // 3], STEMS[index % 3]
        assert f", Model: {target}," in text
        assert (f"Ditail source: {source}" if source != target else "Ditail source: same as target") in text
        assert "Ditail positive scale: 2.0" in text
        assert "Ditail injection" not in text  # that it is none, in too few steps
    assert texts[0].startswith(texts[1])
    assert "Script: Ditail grid" in texts[0]


def test_the_sheet_shows_the_cells_in_their_places(webui: WebUI):
    answer = grid(webui)
    sheet, *made = answer.pictures
    left, top = sheet.width - 3 * WIDE, sheet.height - 3 * HIGH
    assert left > 0 < top
    for index, cell in enumerate(made):
        x, y = left + index % 3 * WIDE, top + index // 3 * HIGH
        assert sheet.crop((x, y, x + WIDE, y + HIGH)).tobytes() == cell.tobytes()
    labels = [sheet.crop((left, 0, sheet.width, top)), sheet.crop((0, top, left, sheet.height))]
    assert all(len(label.getcolors() or range(999)) > 2 for label in labels)  # text on plain ground


def test_a_cell_is_what_its_request_gives_alone(webui: WebUI):
    made = cells(grid(webui))
    for row, column in ((0, 1), (2, 1), (2, 2)):
        webui.post("/ditail/v1/cache/clear")
        alone = webui.img2img(
            {"source_checkpoint": NAMES[row]},
            override_settings={"sd_model_checkpoint": NAMES[column]},
            **SHORT,
        )
        assert alone.pixels == [made[3 * row + column]]


def test_without_injection_the_diagonal_is_the_reconstruction(webui: WebUI):
    """In img2img both ratios at 0 give the picture that the inverted start alone leads to, not plain img2img's."""
    made = cells(grid(webui, NAMES[:2], ditail=NO_INJECTION))
    for index, name in enumerate(NAMES[:2]):
        request = {"override_settings": {"sd_model_checkpoint": name}, **SHORT}
        assert webui.img2img(NO_INJECTION, **request).pixels == [made[3 * index]]
        assert webui.img2img(**request).pixels != [made[3 * index]]


def test_another_checkpoint_is_loaded_before(webui: WebUI, probe: Probe):
    """m loads and the return; none of them when everything is there already."""
    names = NAMES[1:]
    with unchanged_host(webui, but=["object"]):
        probe.reset()
        first = cells(grid(webui, names))
        assert len(probe.records().loads) == len(names) + 1
        probe.reset()
        assert cells(grid(webui, names)) == first
        assert probe.records().loads == []
        assert probe.records().calls == []


def test_inversions_are_held_even_where_none_are_kept(webui: WebUI, probe: Probe):
    webui.post("/sdapi/v1/options", {"ditail_cache_mb": 0})
    try:
        cells(grid(webui))
        assert len(probe.records().loads) == len(NAMES) - 1
        assert webui.get("/ditail/v1/cache").body["inversions"] == 0
    finally:
        webui.post("/sdapi/v1/options", {"ditail_cache_mb": 256})


def test_cells_and_sheet_are_saved(webui: WebUI):
    options = {"samples_save": True, "grid_save": True, "save_images_add_number": True}
    webui.post("/sdapi/v1/options", options)
    try:
        answer = grid(webui, NAMES[:2], save_images=True)
    finally:
        webui.post("/sdapi/v1/options", dict.fromkeys(options, False))
    texts = answer.info["infotexts"]
    saved = [path for path in (webui.data / "outputs").rglob("*.png") if path.parent.name != "ditail-grid-cells"]
    sheets = [path for path in saved if "img2img-grids" in path.parts]
    assert sorted(Image.open(path).info["parameters"] for path in set(saved) - set(sheets)) == sorted(texts[1:])
    assert [Image.open(path).info["parameters"] for path in sheets] == texts[:1]


def test_loras_are_styles_of_the_selected_checkpoint(webui: WebUI, probe: Probe):
    answer = grid(webui, [NAMES[1], NAMES[0]], [f"{LORA}:0.8"])
    made = cells(answer)
    assert len(set(made)) == 9
    assert len(probe.records().loads) <= 4
    texts = answer.info["infotexts"][1:]
    assert [f"<lora:{LORA}:0.8>" in text.splitlines()[0] for text in texts] == [False, False, True] * 3
    told = [text.split("Ditail inversion prompt: ")[1].split(", Ditail")[0].strip('"') for text in texts]
    assert told == ["a red circle"] * 6 + [f"a red circle<lora:{LORA}:0.8>"] * 3
    webui.post("/ditail/v1/cache/clear")
    alone = webui.img2img({"source_checkpoint": NAMES[1]}, prompt=f"a red circle <lora:{LORA}:0.8>", **SHORT)
    assert alone.pixels == [made[2]]


def test_txt2img_with_a_content_picture(webui: WebUI, probe: Probe):
    with unchanged_host(webui):
        probe.reset()
        made = cells(grid(webui, tab="txt2img", ditail={"picture": encode(circle())}))
        assert len(set(made)) == 9
        assert len(probe.records().loads) == len(NAMES) - 1


def test_txt2img_with_generated_sources(webui: WebUI, probe: Probe):
    """Without injection the diagonal is the plain generation of its checkpoint."""
    answer = grid(webui, tab="txt2img", ditail=NO_INJECTION)
    assert len(probe.records().loads) == len(NAMES) - 1
    for index, name in enumerate(NAMES):
        plain = webui.txt2img(override_settings={"sd_model_checkpoint": name}, **SHORT)
        assert plain.pixels == [cells(answer)[4 * index]]


def test_the_same_through_the_plot(webui: WebUI, probe: Probe):
    """Source checkpoints by checkpoints in the X/Y/Z plot: the same pictures, and the host loads its own again."""
    made = cells(grid(webui))
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    names = ", ".join(NAMES)
    args = arguments(webui, ("Checkpoint name", names), ("[Ditail] Source checkpoint", names))
    answer = webui.img2img({}, script_name="X/Y/Z plot", script_args=args, **SHORT)
    assert cells(answer) == made
    back = [] if webui.host == "forge" else [NAMES[0]]  # Forge loads a checkpoint when it is asked for a picture
    assert probe.records().loads == [*NAMES[1:], *back]


@pytest.mark.slow
@pytest.mark.parametrize(("megabytes", "loads"), [(-1, 3), (0, 6 + 1)])
def test_loads_of_four_by_four(webui: WebUI, probe: Probe, megabytes: int, loads: int):
    """Beside the one that is loaded; without room for waiting sources the host loads that one again at the end."""
    with options(webui, {"ditail_models_mb": megabytes}):
        made = cells(grid(webui, [*NAMES, "delta.safetensors"]))
        assert len(set(made)) == 16
        assert len(probe.records().loads) == loads


def test_without_room_for_waiting_sources(webui: WebUI, probe: Probe):
    """The same cells with 2m - 2 loads, and the return."""
    made = cells(grid(webui))
    shutil.rmtree(webui.data / "outputs")
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    with options(webui, {"ditail_models_mb": 0}):
        assert cells(grid(webui)) == made
        assert len(probe.records().loads) == 2 * len(NAMES) - 2 + 1
