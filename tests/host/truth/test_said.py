"""What has no effect or differs is said where people look: below the picture, and in the result's ``info``.

Rows E1 to E7 of what was found when public bug reports were tried on the extension; docs/bad-input.md has the table.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from harness.client import Answer, alike, circle, encode
from harness.grids import grid
from harness.models.checkpoints import LORA
from harness.plot import plot
from harness.probe import Probe
from harness.server import WebUI
from harness.state import options

pytestmark = pytest.mark.server("held")

BETA = {"source_checkpoint": "beta.safetensors"}
SMALL: dict[str, Any] = {"width": 128, "height": 64, "steps": 4}
ALTERNATIVE = ["", True, True, "a disc", "", True, 20, True, 1.0, 0.0, False]


PICTURE = {"picture": encode(circle(64, 64))}


def said(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return " ".join(answer.info["extra_generation_params"].get("Ditail said", []))


class TestTheSeed:
    """E1."""

    def test_without_effect(self, webui: WebUI):
        """Three equal pictures, and it is said."""
        answer = webui.img2img(BETA, **SMALL, n_iter=3)
        assert "the seed has no effect with DDIM" in said(answer)
        assert len(set(answer.pixels[-3:])) == 1
        assert answer.pixels[-1] == webui.img2img(BETA, **SMALL, seed=99).pixels[0]

    def test_with_effect(self, webui: WebUI):
        """It is not said of samplers that draw noise, nor where the source generates the content from it."""
        ancestral = webui.img2img(BETA, **SMALL, n_iter=2, sampler_name="Euler a")
        assert "the seed has no effect" not in said(ancestral)
        assert len(set(ancestral.pixels[-2:])) == 2
        generated = webui.txt2img(BETA, **SMALL, n_iter=2)
        assert "the seed has no effect" not in said(generated)
        assert len(set(generated.pixels[-2:])) == 2


class TestTheContent:
    """E2."""

    def test_pasted_back_without_its_picture_it_is_refused(self, webui: WebUI, probe: Probe):
        first = webui.txt2img({**BETA, **PICTURE}, **SMALL)
        assert first.status == 200, first.body
        probe.reset()
        again = webui.txt2img(infotext=first.infotext)
        assert again.status == 422, again.body
        assert again.sentence == (
            "Ditail: Content: is 'picture', but there is no content picture; give it, or choose another."
        )
        assert not probe.records().calls
        assert webui.txt2img(PICTURE, infotext=first.infotext, **SMALL).pixels == first.pixels

    def test_its_hash_is_the_content_s(self, webui: WebUI):
        def content(picture: str) -> str:
            answer = webui.txt2img({**BETA, "picture": picture}, **SMALL)
            return answer.infotext.split("Ditail content: ")[1].split(",")[0]

        hashes = [
            content(encode(circle(64, 64))),
            content(encode(circle(64, 64))),
            content(encode(circle(64, 64, (1, 2, 3)))),
        ]
        assert hashes[0].startswith("picture ")
        assert hashes[0] == hashes[1] != hashes[2]

    def test_the_very_picture_is_said_to_be_it(self, webui: WebUI):
        """The target as its own source, from the same noise, without a prompt: nothing can change, and it is said."""
        empty = {"prompt": "", "negative_prompt": "", **SMALL}
        same = webui.txt2img({}, **empty)
        assert "source and target generate one picture" in said(same)
        assert alike(same.pixels, webui.txt2img(**empty).pixels)
        for ditail, request in (({"inversion_prompt": "a blue square"}, empty), ({}, SMALL)):
            assert "generate one picture" not in said(webui.txt2img(ditail, **request))


class TestOtherScripts:
    """E4 and E6."""

    def test_a_script_with_sampling_of_its_own(self, webui: WebUI, probe: Probe):
        """The truth, before anything is computed."""
        probe.reset()
        answer = webui.img2img(
            BETA, script_name="img2img alternative test", script_args=ALTERNATIVE, sampler_name="Euler", **SMALL
        )
        assert answer.status == 422, answer.body
        assert "A script samples in a way of its own" in answer.sentence
        assert "1.10" not in answer.sentence
        assert probe.records().calls == []
        alone = webui.img2img(
            script_name="img2img alternative test", script_args=ALTERNATIVE, sampler_name="Euler", **SMALL
        )
        assert alone.status == 200, alone.body

    def test_an_axis_of_ours_switches_ditail_on(self, webui: WebUI):
        answer = plot(webui, ("[Ditail] Attention ratio", "0, 1"), **SMALL)
        assert answer.status == 200, answer.body
        assert all("Ditail version" in text for text in answer.info["infotexts"][-2:])

    def test_fill_lists_the_target_once(self, webui: WebUI):
        info = next(one for one in webui.get("/sdapi/v1/script-info").body if one["name"] == "x/y/z plot")
        assert "[Ditail] Source checkpoint" in info["args"][0]["choices"]
        answer = plot(webui, ("[Ditail] Source checkpoint", "alpha.safetensors, beta.safetensors"), **SMALL)
        assert answer.status == 200, answer.body
        assert len(set(answer.pixels[-2:])) == 2

    def test_a_grid_sheet_has_no_prompt_that_nobody_gave(self, webui: WebUI):
        answer = grid(webui, ["alpha.safetensors"], f"{LORA}:0.8", ditail={}, **SMALL)
        assert answer.status == 200, answer.body
        assert "Script: Ditail grid" in answer.info["infotexts"][0]
        assert "Ditail inversion prompt" not in answer.info["infotexts"][0]

    def test_the_lists_follow_the_api_s_refresh(self, webui: WebUI):
        path = webui.checkpoints / "fresh.safetensors"
        shutil.copyfile(webui.checkpoints / "beta.safetensors", path)
        try:
            webui.post("/sdapi/v1/refresh-checkpoints")
            assert path.name in json.dumps(webui.get("/ditail/v1/schema").body)
        finally:
            path.unlink()
            webui.post("/sdapi/v1/refresh-checkpoints")
        assert path.name not in json.dumps(webui.get("/ditail/v1/schema").body)


class TestWhatHasNoEffect:
    """E5."""

    def test_ancestral_samplers(self, webui: WebUI):
        answer = webui.img2img(BETA, sampler_name="Euler a", **SMALL)
        assert "Euler a adds noise on the way, so the picture's start is not preserved" in said(answer)
        assert "Ditail start" in answer.infotext

    def test_nothing_injected(self, webui: WebUI):
        answer = webui.img2img({**BETA, "feature_ratio": 0.0, "attention_ratio": 0.0}, **SMALL)
        assert "injection: none, both ratios or weights are 0" in said(answer)
        assert 'Ditail injection: "none, both' in answer.infotext

    def test_extra_noise(self, webui: WebUI):
        without = webui.img2img(BETA, **SMALL)
        with options(webui, {"img2img_extra_noise": 0.5}):
            answer = webui.img2img(BETA, **SMALL)
        assert answer.pixels == without.pixels
        assert "Extra noise: without effect" in said(answer)
        assert "Extra noise" not in answer.infotext

    def test_nothing_to_say(self, webui: WebUI):
        assert said(webui.img2img(BETA, **SMALL)) == ""


class TestRefusals:
    """E3: by the panel's label, without a class's name or a traceback."""

    @pytest.mark.parametrize(
        ("ditail", "label"),
        [
            ({"source_checkpoint": "nobody"}, "Source checkpoint"),
            ({"feature_ratio": 2.0}, "Feature ratio"),
            ({"source_checkpoint": "\ud800"}, "Source checkpoint"),
            ({"inversion_prompt": "\ud800"}, "Inversion prompt"),
            ({"aggregate_1": "nobody"}, "Aggregate with (1)"),
        ],
    )
    def test_by_label(self, webui: WebUI, ditail: dict[str, Any], label: str):
        before = webui.log().count("Traceback")
        answer = webui.img2img(ditail, **SMALL)
        assert answer.status == 422, answer.body
        assert answer.sentence.startswith(f"Ditail: {label}: ")
        assert "Error" not in answer.sentence
        assert webui.log().count("Traceback") == before

    def test_an_emptied_source_is_the_target(self, webui: WebUI):
        """The panel sends nothing for a list that was emptied."""
        emptied = webui.img2img([True, None], **SMALL)
        assert emptied.status == 200, emptied.body
        assert emptied.pixels == webui.img2img({}, **SMALL).pixels
