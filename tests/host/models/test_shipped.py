"""The shipped checkpoints in a real WebUI: they load, draw their styles, and Ditail carries a scene between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness.client import Answer, encode
from harness.plot import arguments
from harness.server import WebUI
from harness.shipped import shipped
from harness.state import options
from PIL import Image

from demo import classifier
from demo.parts import SHIPPED, UNETS
from demo.styles import CHECKPOINT_STYLES, LORA_STYLE, draw
from demo.train.unet import SIDE
from demo.world import caption, make_scene, masks

pytestmark = pytest.mark.server("others")

SCENE = make_scene(20_025)
STYLE_FILES = [f"ditail-demo-{style}.safetensors" for style in CHECKPOINT_STYLES]
USUAL = {"width": SIDE, "height": SIDE, "steps": 20, "cfg_scale": 5, "negative_prompt": "", "sampler_name": "DDIM"}


@pytest.fixture(scope="module")
def demo(webui: WebUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUI]:
    """With the shipped checkpoints and LoRA; the base is loaded."""
    with shipped(webui, tmp_path_factory.mktemp("demo")):
        with options(webui, {"sd_model_checkpoint": "ditail-demo-base.safetensors"}):
            yield webui
        webui.txt2img(steps=2)  # the option's checkpoint again


@pytest.fixture(scope="module")
def judge() -> classifier.Judge:
    return classifier.load(SHIPPED / "judge.safetensors")


def styles(judge: classifier.Judge, answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [v.style for v in judge.judge(np.stack([np.array(p) for p in answer.pictures]))]


def with_checkpoint(name: str) -> dict[str, str]:
    return {"sd_model_checkpoint": f"ditail-demo-{name}.safetensors"}


def test_all_are_listed(demo: WebUI):
    titles = {model["model_name"] for model in demo.get("/sdapi/v1/sd-models").body}
    assert {f"ditail-demo-{name}" for name in UNETS} <= titles
    assert f"ditail-demo-{LORA_STYLE}-lora" in {lora["name"] for lora in demo.get("/sdapi/v1/loras").body}


@pytest.mark.parametrize("style", CHECKPOINT_STYLES)
def test_a_style_checkpoint_draws_its_style(demo: WebUI, judge: classifier.Judge, style: str):
    made = demo.txt2img(
        prompt="a large red circle on grey", override_settings=with_checkpoint(style), batch_size=4, **USUAL
    )
    assert styles(judge, made).count(style) >= 3


def test_the_base_draws_the_named_style_and_the_lora_its_own(demo: WebUI, judge: classifier.Judge):
    usual = {"override_settings": with_checkpoint("base"), "batch_size": 4, **USUAL}
    text = "a large red circle on grey"
    ink = demo.txt2img(prompt=f"{text}, ink style", **usual)
    assert styles(judge, ink).count("ink") >= 3
    neon = demo.txt2img(prompt=f"{text} <lora:ditail-demo-{LORA_STYLE}-lora:1>", **usual)
    assert styles(judge, neon).count(LORA_STYLE) >= 3


def test_ditail_carries_the_layout_into_the_targets_style(demo: WebUI, judge: classifier.Judge):
    picture = Image.fromarray(draw(SCENE, "shaded", SIDE))
    usual = {
        "prompt": caption(SCENE),
        "init_images": [encode(picture)],
        "denoising_strength": 1,
        "override_settings": with_checkpoint("ink"),
        **USUAL,
    }
    mixed = demo.img2img({"source_checkpoint": "ditail-demo-shaded.safetensors"}, **usual)
    plain = demo.img2img(**usual)
    true = masks(SCENE, classifier.MAP).any(0)
    found = [judge.judge(np.array(answer.pictures[0])[None])[0] for answer in (mixed, plain)]
    overlap = [float((v.mask & true).sum() / (v.mask | true).sum()) for v in found]
    assert overlap[0] > 0.6
    assert overlap[0] > overlap[1] + 0.1
    assert found[0].style_probability["ink"] > found[0].style_probability["shaded"]
    assert Path(mixed.info["sd_model_name"]).stem == "ditail-demo-ink"


def carried_over(verdicts: list[classifier.Verdict]) -> float:
    """How much of a row's content its other cells hold: mean IoU with the diagonal's, over a 3 x 3 grid."""
    others = [(index, 4 * (index // 3)) for index in range(9) if index % 4]
    masks_of = [(verdicts[index].mask, verdicts[own].mask) for index, own in others]
    return float(np.mean([(one & other).sum() / (one | other).sum() for one, other in masks_of]))


CROSS = {"prompt": "a large red cross on grey", **USUAL}


def grid(demo: WebUI, ditail: dict[str, Any], request: dict[str, Any]) -> Answer:
    return demo.txt2img(ditail, script_name="Ditail grid", script_args=[STYLE_FILES, ""], **request)


def test_the_grid_has_every_content_in_every_style(demo: WebUI, judge: classifier.Judge):
    demo.probe.reset()
    made = grid(demo, {}, CROSS)
    assert len(demo.probe.records().loads) <= 2 * len(CHECKPOINT_STYLES)
    verdicts = judge.judge(np.stack([np.array(picture) for picture in made.pictures[1:]]))
    columns = list(CHECKPOINT_STYLES) * len(CHECKPOINT_STYLES)
    assert sum(v.style == style for v, style in zip(verdicts, columns, strict=True)) >= 7
    assert carried_over(verdicts) > 0.5


@pytest.mark.slow
def test_the_plot_has_the_grids_pictures(demo: WebUI):
    made = grid(demo, {}, CROSS)
    names = ", ".join(STYLE_FILES)
    args = arguments(demo, ("Checkpoint name", names), ("[Ditail] Source checkpoint", names), img2img=False)
    demo.post("/ditail/v1/cache/clear")
    plot = demo.txt2img({}, script_name="X/Y/Z plot", script_args=args, **CROSS)
    assert plot.pixels[1:] == made.pixels[1:]


@pytest.mark.slow
def test_the_grids_diagonal_is_plain_generation_where_nothing_is_injected(demo: WebUI):
    request = {"prompt": "a large red circle on grey", **USUAL}
    off = {"feature_ratio": 0.0, "attention_ratio": 0.0}
    made = grid(demo, off, request)
    for index, style in enumerate(CHECKPOINT_STYLES):
        plain = demo.txt2img(override_settings=with_checkpoint(style), **request)
        assert plain.pixels == [made.pixels[1 + 4 * index]]
