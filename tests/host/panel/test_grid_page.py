"""The grid's controls in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from harness.client import circle
from harness.grids import NAMES, SIZE, grid, kept
from harness.models.checkpoints import LORA
from harness.pages.browser import browser, missing
from harness.pages.page import Page, wait
from harness.server import WebUI

pytestmark = [pytest.mark.server("panel"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]


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
        page.generate("img2img", lambda: "Script: Ditail grid" in page.text("#html_info_img2img"), "the sheet")
        assert page.severe() == []
    assert len(kept(webui)) == 9
