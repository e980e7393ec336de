"""The grid script: every model's content in every model's style."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_state import unchanged_host
from harness.browser import Page, browser, missing, wait
from harness.checkpoints import LORA
from harness.client import Answer, circle, encode
from harness.probe import Probe
from harness.server import WebUI
from PIL import Image
from test_api_xyz import axis_number

NAMES = ["alpha.safetensors", "beta.safetensors", "gamma.safetensors"]
STEMS = ["alpha", "beta", "gamma"]
SIZE = 128
SHORT = {"steps": 4, "denoising_strength": 1.0}
NO_INJECTION = {"feature_ratio": 0.0, "attention_ratio": 0.0}


@pytest.fixture(autouse=True)
def nothing_kept(webui: WebUI, probe: Probe) -> Iterator[None]:
    """Neither cells nor inversions of another test; alpha is loaded."""
    shutil.rmtree(webui.data / "outputs", ignore_errors=True)
    webui.txt2img(steps=1)
    probe.reset()
    yield
    shutil.rmtree(webui.data / "outputs", ignore_errors=True)


def grid(webui: WebUI, names: Any = NAMES, loras: Any = "", *, tab: str = "img2img", **more: Any) -> Answer:
    return getattr(webui, tab)(**{**SHORT, "script_name": "Ditail grid", "script_args": [names, loras], **more})


def cells(answer: Answer) -> list[bytes]:
    assert answer.status == 200, answer.sentence
    return answer.pixels[1:]


def kept(webui: WebUI) -> list[Path]:
    return sorted((webui.data / "outputs").rglob("ditail-grid-cells/*.png"))


def samplings(probe: Probe) -> int:
    return len(probe.records().samples)


def test_nine_cells_and_the_sheet(webui: WebUI, probe: Probe):
    with unchanged_host(webui):
        probe.reset()
        answer = grid(webui, ditail={"positive_scale": 2.0})
        made = cells(answer)
        assert len(made) == len(set(made)) == 9
        records = probe.records()
        assert records.loads == ["beta.safetensors", "gamma.safetensors", "beta.safetensors", "alpha.safetensors"]
        assert len(records.loads) <= 2 * len(NAMES)
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
    left, top = sheet.width - 3 * SIZE, sheet.height - 3 * SIZE
    assert left > 0 < top
    for index, cell in enumerate(made):
        x, y = left + index % 3 * SIZE, top + index // 3 * SIZE
        assert sheet.crop((x, y, x + SIZE, y + SIZE)).tobytes() == cell.tobytes()
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
    """2m loads, the return included; none of them when everything is there already."""
    names = NAMES[1:]
    with unchanged_host(webui):
        probe.reset()
        first = cells(grid(webui, names))
        assert len(probe.records().loads) == 2 * len(names)
        probe.reset()
        assert cells(grid(webui, names)) == first
        assert probe.records().loads == []
        assert probe.records().calls == []


def test_inversions_are_held_even_where_none_are_kept(webui: WebUI, probe: Probe):
    webui.post("/sdapi/v1/options", {"ditail_cache_mb": 0})
    try:
        cells(grid(webui))
        assert len(probe.records().loads) == 2 * len(NAMES) - 2
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


def interrupt_after(webui: WebUI, count: int, request: dict[str, Any]) -> Answer:
    """Run a grid, and press Interrupt by the API once so many cells are finished."""
    answers: list[Answer] = []
    worker = threading.Thread(target=lambda: answers.append(grid(webui, **request)))
    worker.start()
    limit = time.monotonic() + 200
    while len(kept(webui)) < count and time.monotonic() < limit:
        time.sleep(0.01)
    progress = webui.get("/sdapi/v1/progress", skip_current_image=True).body
    assert webui.post("/sdapi/v1/interrupt").status == 200
    assert progress["state"]["job_count"] == 9 + 3  # cells and inversions
    assert count + 3 <= progress["state"]["job_no"] < 9 + 3
    assert progress["state"]["job"] == f"Ditail grid: cell {progress['state']['job_no'] - 3 + 1} of 9"
    worker.join()
    return answers[0]


@pytest.mark.parametrize("seed", [7, -1])
def test_an_interrupted_grid_goes_on_where_it_ended(webui: WebUI, probe: Probe, seed: int):
    request = {"seed": seed, "sampler_name": "Euler a"}
    with unchanged_host(webui):
        probe.reset(delay=0.02)
        broken = interrupt_after(webui, 4, request)
    done = kept(webui)
    assert 4 <= len(done) < 9
    assert len(cells(broken)) == len(done)
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    finished = grid(webui, **request)
    made = cells(finished)
    assert samplings(probe) == 9 - len(done)
    assert len(probe.records().loads) <= 2 * len(NAMES)
    assert set(cells(broken)) < set(made)
    texts = broken.info["infotexts"] + finished.info["infotexts"]
    assert {text.split("Seed: ")[1].split(",")[0] for text in texts} == {str(finished.info["seed"])}
    shutil.rmtree(webui.data / "outputs")
    if seed == 7:
        assert cells(grid(webui, **request)) == made  # as if it had never been interrupted
    else:
        assert grid(webui, **request).info["seed"] != finished.info["seed"]  # a finished one draws anew


def test_a_cell_that_fails_leaves_the_others(webui: WebUI, probe: Probe):
    with unchanged_host(webui):
        probe.reset(throw_load="gamma.safetensors")
        answer = grid(webui)
        assert answer.status != 200
        assert "thrown by the probe" in answer.sentence
    assert len(kept(webui)) == 2  # alpha's and beta's own
    probe.reset()
    assert len(cells(grid(webui))) == 9
    assert samplings(probe) == 7
    assert len(probe.records().loads) <= 2 * len(NAMES)


def test_a_skipped_cell_is_left_out(webui: WebUI, probe: Probe):
    probe.reset(stop_at=20, stop="skip")
    made = cells(grid(webui))
    assert len(made) == len(kept(webui)) == 8
    probe.reset()
    assert len(cells(grid(webui))) == 9
    assert samplings(probe) == 1


MIXED = {"ditail": {"mix_checkpoint": "delta.safetensors", "mix_weight": 0.5}}


def test_a_fourth_model_and_another_prompt(webui: WebUI, probe: Probe):
    """Cells are told apart by all that they depend on, and by nothing else."""
    first = cells(grid(webui, NAMES[:2]))
    probe.reset()
    assert set(first) < set(cells(grid(webui)))
    assert samplings(probe) == 5
    for change in ({"prompt": "a blue square"}, {"seed": 8}, {"ditail": {"refinements": 1}}, MIXED):
        probe.reset()
        cells(grid(webui, NAMES[:2], **change))
        assert samplings(probe) == 4


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


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([["alpha.safetensors", "none.safetensors"], ""], "no checkpoint named 'none.safetensors'"),
        ([["alpha.safetensors"], ""], "at least two"),
        ([[], "tiny"], "at least two"),
        ([["twin", "alpha"], ""], "twin"),
        ([["alpha", "alpha.safetensors"], ""], "twice"),
        (["alpha", ""], "checkpoints must be a list"),
        ([["alpha", "beta"], 3], "loras must be a list"),
        ([["alpha"], "nobody:1"], "no LoRA named 'nobody'"),
        ([["alpha"], "tiny:much"], "name:weight"),
        ([{"checkpoints": ["alpha", "beta"], "models": []}, ""], "no argument 'models'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_done(webui: WebUI, probe: Probe, args: Any, sentence: str):
    answer = grid(webui, script_args=args)
    assert answer.status == 422, answer.body
    assert sentence in answer.sentence
    assert answer.sentence.endswith(".")
    assert probe.records().calls == probe.records().loads == []


def test_the_panels_settings_are_checked_too(webui: WebUI, probe: Probe):
    answer = grid(webui, ditail={"positive_scale": 99.0})
    assert answer.status == 422
    assert "positive_scale" in answer.sentence
    assert probe.records().calls == []


def test_arguments_by_name_and_one_picture_a_cell(webui: WebUI):
    answer = grid(webui, script_args=[{"checkpoints": NAMES[:2]}], batch_size=2, n_iter=2)
    assert len(cells(answer)) == 4


def test_txt2img_with_a_content_picture(webui: WebUI, probe: Probe):
    with unchanged_host(webui):
        probe.reset()
        made = cells(grid(webui, tab="txt2img", ditail={"picture": encode(circle(SIZE))}))
        assert len(set(made)) == 9
        assert len(probe.records().loads) == 2 * len(NAMES) - 2


def test_txt2img_with_generated_sources(webui: WebUI, probe: Probe):
    """Without injection the diagonal is the plain generation of its checkpoint."""
    answer = grid(webui, tab="txt2img", ditail=NO_INJECTION)
    assert len(probe.records().loads) == 2 * len(NAMES) - 2
    for index, name in enumerate(NAMES):
        plain = webui.txt2img(override_settings={"sd_model_checkpoint": name}, **SHORT)
        assert plain.pixels == [cells(answer)[4 * index]]


def test_the_same_through_the_plot(webui: WebUI, probe: Probe):
    """Source checkpoints by checkpoints in the X/Y/Z plot: the same pictures, with more loads."""
    made = cells(grid(webui))
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    axes: list[Any] = []
    for label, names in (("Checkpoint name", NAMES), ("[Ditail] Source checkpoint", NAMES), ("Nothing", [])):
        axes += [axis_number(webui, label), ", ".join(names), names]
    args = [*axes, False, True, False, False, False, False, False, 0, False]
    answer = webui.img2img({}, script_name="X/Y/Z plot", script_args=args, **SHORT)
    assert cells(answer) == made
    loads = probe.records().loads
    assert len(loads) == 3 * len(NAMES) - 2
    assert [loads.count(name) for name in NAMES] == [3, 2, 2]


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_sheets_infotext_selects_the_script_in_the_page(webui: WebUI, tmp_path: Path):
    """Pasted, it fills in the grid's controls, and Generate makes the same grid."""
    answer = grid(webui, NAMES[:2], [f"{LORA}:0.8"], width=SIZE)
    file = tmp_path / "circle.png"
    circle().save(file)
    shutil.rmtree(webui.data / "outputs")
    with browser() as driver:
        page = Page(driver, webui.url)
        page.tab("img2img")
        page.upload("#img2img_image", file)
        page.set("#img2img_prompt textarea", answer.info["infotexts"][0])
        page.click("#img2img_tools #paste")
        controls = "#script_img2img_ditail_grid_"
        wait(lambda: page.visible(f"{controls}checkpoints"), "the grid's controls")
        wait(lambda: all(name in page.text(f"{controls}checkpoints") for name in NAMES[:2]), "the checkpoints")
        assert NAMES[2] not in page.text(f"{controls}checkpoints")
        assert page.value(f"{controls}loras textarea") == f"{LORA}:0.8"
        page.click("#img2img_generate")
        wait(lambda: "Script: Ditail grid" in page.text("#html_info_img2img"), "the sheet")
        assert page.severe() == []
    assert len(kept(webui)) == 9
