"""The axes in the host's X/Y/Z plot."""

from __future__ import annotations

from harness.plot import NOTHING, axis_number, plot
from harness.probe import Probe
from harness.server import WebUI

from ditail_ext.settings import TABLE


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
    assert grid.width >= 2 * 128
    assert len({cell.tobytes() for cell in cells}) == len(cells) == 4
    texts = answer.info["infotexts"][1:]
    assert ["positive scale: 1.0" in text for text in texts] == [True, False, True, False]
    assert ["source: beta" in text for text in texts] == [True, True, False, False]
    assert probe.records().loads == ["beta.safetensors", "gamma.safetensors"]  # they wait for the other scale


def test_enabled_as_an_axis_gives_the_plain_picture_too(webui: WebUI):
    answer = plot(webui, ("[Ditail] Enabled", "False, True, False"), NOTHING)
    assert answer.status == 200, answer.body
    texts = answer.info["infotexts"][1:]
    assert ["Ditail" in text.split("Script")[0] for text in texts] == [False, True, False]


def test_a_wrong_value_stops_the_plot_before_the_first_picture(webui: WebUI, probe: Probe):
    answer = plot(webui, ("[Ditail] Positive scale (α)", "1, 40"), NOTHING, ditail={})
    assert answer.status != 200
    assert "positive_scale" in str(answer.body)
    assert probe.records().calls == []
