"""The grid's controls in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from harness.client import circle
from harness.grids import NAMES, WIDE, grid, kept
from harness.models.checkpoints import LORA
from harness.pages.browser import missing
from harness.pages.page import Page, wait
from harness.server import WebUI

pytestmark = [pytest.mark.server("panel"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]


def test_a_lora_is_added_from_the_list(page: Page):
    """It comes into the field, where its weight can be typed; the list stands at nothing again."""
    page.tab("img2img")
    page.choose("#img2img_script_container #script_list", "Ditail grid")
    controls = "#script_img2img_ditail_grid_"
    wait(lambda: page.visible(f"{controls}add_lora input"), "the grid's controls")
    assert LORA in page.options(f"{controls}add_lora")
    page.press(f"{controls}add_lora", LORA)
    wait(lambda: page.value(f"{controls}loras textarea") == LORA, "the LoRA")
    assert page.value(f"{controls}add_lora input") == ""
    page.set(f"{controls}loras textarea", f"{LORA}:0.5, {LORA}:1")
    wait(lambda: "2 x 2 = 4 pictures" in page.text("#ditail_img2img_grid_cost"), "the cost")
    assert "no load of a checkpoint" in page.text("#ditail_img2img_grid_cost")
    assert page.severe() == []


def test_a_sheets_infotext_selects_the_script_in_the_page(page: Page, webui: WebUI, tmp_path: Path):
    """Pasted, it fills in the grid's controls, and Generate makes the same grid."""
    answer = grid(webui, NAMES[:2], [f"{LORA}:0.8"], width=WIDE)
    file = tmp_path / "circle.png"
    circle(128, 128).save(file)
    shutil.rmtree(webui.data / "outputs")
    page.tab("img2img")
    page.upload("#img2img_image", file)
    page.set("#img2img_prompt textarea", answer.info["infotexts"][0])
    page.click("#img2img_tools #paste")
    controls = "#script_img2img_ditail_grid_"
    wait(lambda: page.visible(f"{controls}checkpoints"), "the grid's controls")
    wait(lambda: all(name in page.text(f"{controls}checkpoints") for name in NAMES[:2]), "the checkpoints")
    assert NAMES[2] not in page.text(f"{controls}checkpoints")
    assert page.value(f"{controls}loras textarea") == f"{LORA}:0.8"
    page.generate("img2img", lambda: "Script: Ditail grid" in page.text("#html_info_img2img"), "the sheet")
    assert page.severe() == []
    assert len(kept(webui)) == 9
