"""The axes in the host's X/Y/Z plot."""

from __future__ import annotations

from typing import Any

from harness.client import circle, encode
from harness.probe import Probe
from harness.server import WebUI

from ditail_ext.settings import TABLE

SIZE = 128


def axis_number(webui: WebUI, label: str, *, img2img: bool = True) -> int:
    """The plot's API takes an axis by its place in the tab's menu."""
    plots = [info for info in webui.get("/sdapi/v1/script-info").body if info["name"] == "x/y/z plot"]
    tab = next(info for info in plots if info["is_img2img"] == img2img)
    return tab["args"][0]["choices"].index(label)


def plot(webui: WebUI, x: tuple[str, str], y: tuple[str, str], **request: Any) -> Any:
    axes: list[Any] = []
    for label, values in (x, y, ("Nothing", "")):
        # type, values, values from the drop-down (used where the axis has choices)
        axes += [axis_number(webui, label), values, values.split(", ")]
    # legend, separate pictures, sub-grids, keep -1 for seeds, vary seeds thrice, margin, csv mode
    args = [*axes, False, True, False, False, False, False, False, 0, False]
    return webui.img2img(script_name="X/Y/Z plot", script_args=args, init_images=[encode(circle(SIZE))], **request)


def test_every_setting_is_in_the_menu(webui: WebUI):
    for setting in TABLE.values():
        name = "Enabled" if setting.name == "enabled" else setting.label
        assert axis_number(webui, f"[Ditail] {name}") > 0


def test_a_plot_over_sources_and_scales(webui: WebUI, probe: Probe):
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    sources = ("[Ditail] Source checkpoint", "beta.safetensors, gamma.safetensors")
    answer = plot(webui, ("[Ditail] Positive scale (α)", "1, 4"), sources, ditail={})
    assert answer.status == 200, answer.body
    grid, *cells = answer.pictures
    assert grid.width >= 2 * SIZE
    assert len({cell.tobytes() for cell in cells}) == len(cells) == 4
    texts = answer.info["infotexts"][1:]
    assert ["positive scale: 1.0" in text for text in texts] == [True, False, True, False]
    assert ["source: beta" in text for text in texts] == [True, True, False, False]
    assert probe.records().loads.count("gamma.safetensors") == 2  # one for each scale: it changes the inversion


def test_enabled_as_an_axis_gives_the_plain_picture_too(webui: WebUI):
    answer = plot(webui, ("[Ditail] Enabled", "False, True, False"), ("Nothing", ""))
    assert answer.status == 200, answer.body
    texts = answer.info["infotexts"][1:]
    assert ["Ditail" in text.split("Script")[0] for text in texts] == [False, True, False]


def test_a_wrong_value_stops_the_plot_before_the_first_picture(webui: WebUI, probe: Probe):
    answer = plot(webui, ("[Ditail] Positive scale (α)", "1, 40"), ("Nothing", ""), ditail={})
    assert answer.status != 200
    assert "positive_scale" in str(answer.body)
    assert probe.records().calls == []
