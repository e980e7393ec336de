"""What is kept is what would be computed: each input changed, one at a time, and compared with a fresh start."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.client import alike, circle, encode
from harness.probe import Probe
from harness.server import WebUI

SOURCE = "train.safetensors"
"""People train into one file name."""

TAG = "a disc <lora:tiny>"
ROUTE = "/sdapi/v1/options"


@pytest.fixture(autouse=True)
def trained(webui: WebUI, probe: Probe) -> Iterator[Path]:
    """A source of the test's own, which may be replaced."""
    path = webui.checkpoints / SOURCE
    _copy(webui, "beta", path)
    webui.post("/sdapi/v1/refresh-checkpoints")
    yield path
    webui.post("/probe/blind")
    webui.post(ROUTE, {"sd_model_checkpoint": "alpha.safetensors"})
    path.unlink(missing_ok=True)
    path.with_suffix(".yaml").unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


def _copy(webui: WebUI, name: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    shutil.copyfile(webui.checkpoints / f"{name}.safetensors", path)
    shutil.copyfile(webui.checkpoints / f"{name}.yaml", path.with_suffix(".yaml"))


def make(webui: WebUI, ditail: dict[str, Any] | None = None, **request: Any) -> list[bytes]:
    """A small picture by the source that may be replaced."""
    small: dict[str, Any] = {"width": 128, "height": 64, "steps": 3, "denoising_strength": 1.0, **request}
    answer = webui.img2img({"source_checkpoint": SOURCE, **(ditail or {})}, **small)
    assert answer.status == 200, answer.body
    return answer.pixels


def fresh(webui: WebUI, *args: Any, **request: Any) -> list[bytes]:
    webui.post("/ditail/v1/cache/clear")
    return make(webui, *args, **request)


@contextmanager
def option(webui: WebUI, name: str, value: object) -> Iterator[None]:
    before = webui.get(ROUTE).body[name]
    webui.post(ROUTE, {name: value})
    try:
        yield
    finally:
        webui.post(ROUTE, {name: before})


ARGUMENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "positive scale": ({"positive_scale": 1.0}, {}),
    "negative scale": ({"negative_scale": 2.0}, {}),
    "rule": ({"inversion_rule": "warm start"}, {}),
    "rule of few calls": ({"inversion_rule": "fast"}, {}),
    "refinements": ({"refinements": 1}, {}),
    "inversion prompt": ({"inversion_prompt": "a square"}, {}),
    "inversion negative prompt": ({"inversion_negative_prompt": "green"}, {}),
    "network in the inversion prompt": ({"inversion_prompt": TAG}, {}),
    "source": ({"source_checkpoint": "delta.safetensors"}, {}),
    "layers": ({"layer_profile": "full"}, {}),
    "record every": ({"record_every": 3}, {}),
    "prompt": ({}, {"prompt": "a blue square"}),
    "negative prompt": ({}, {"negative_prompt": "yellow"}),
    "network in the prompt": ({}, {"prompt": "a red circle <lora:tiny:1>"}),
    "picture": ({}, {"init_images": [encode(circle(colour=(40, 40, 220)))]}),
    "steps": ({}, {"steps": 4}),
    "denoising strength": ({}, {"denoising_strength": 0.7}),
    "sampler": ({}, {"sampler_name": "Euler"}),
    "scheduler": ({}, {"sampler_name": "Euler", "scheduler": "Karras"}),
    "size": ({}, {"width": 72}),
    "tiling": ({}, {"tiling": True}),
    "preset": ({"preset": "more structure"}, {}),
    "windows": ({"feature_ratio": 1.0, "attention_start": 0.3, "attention_ratio": 1.0}, {}),
    "weights": ({"feature_weight": 0.5, "attention_weight": 0.5}, {}),
    "region": ({"mask": encode(circle().convert("L").point(lambda value: 255 * (value < 120)))}, {}),
    "further checkpoint": ({"aggregate_1": "delta.safetensors", "aggregation_ratio": 1.0}, {}),
    "mix": ({"mix_checkpoint": "delta.safetensors", "mix_weight": 0.5}, {}),
}
"""By input: what changes in Ditail's arguments and in the host's."""

GENERATED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{name: ARGUMENTS[name] for name in ("source", "inversion prompt", "network in the inversion prompt", "layers")},
    **{name: ARGUMENTS[name] for name in ("prompt", "negative prompt", "network in the prompt", "steps", "sampler")},
    **{name: ARGUMENTS[name] for name in ("scheduler", "size", "tiling", "mix", "further checkpoint")},
    "content": ({"picture": encode(circle())}, {}),
    "shown content": ({"show_content": True}, {}),
    "seed": ({}, {"seed": 8}),
    "other seed's share": ({}, {"subseed": 9, "subseed_strength": 0.5}),
    "CFG scale": ({}, {"cfg_scale": 2}),
    "batch": ({}, {"batch_size": 2}),
}
"""The same where the source generates the content, in txt2img."""

OPTIONS = {
    "CLIP_stop_at_last_layers": 2,
    "emphasis": "No norm",
    "extra_networks_default_multiplier": 0.3,
    "use_downcasted_alpha_bar": True,
    "sd_noise_schedule": "Zero Terminal SNR",
    "auto_vae_precision": False,
    "upcast_attn": True,
    "sd_lora": "tiny",
}


def is_kept_truly(webui: WebUI, ditail: dict[str, Any], request: dict[str, Any]) -> bool:
    """With everything kept of another request, the answer is that of a fresh start."""
    fresh(webui)
    warm = make(webui, ditail, **request)
    return warm == fresh(webui, ditail, **request)


@pytest.mark.parametrize("changed", ARGUMENTS)
def test_arguments(webui: WebUI, changed: str):
    assert is_kept_truly(webui, *ARGUMENTS[changed])


@pytest.mark.parametrize("changed", GENERATED)
def test_generated_contents(webui: WebUI, changed: str):
    def generated(ditail: dict[str, Any], request: dict[str, Any]) -> list[bytes]:
        small = {"width": 128, "height": 64, "steps": 3, **request}
        answer = webui.txt2img({"source_checkpoint": SOURCE, **ditail}, **small)
        assert answer.status == 200, answer.body
        return answer.pixels

    webui.post("/ditail/v1/cache/clear")
    before = generated({}, {})
    warm = generated(*GENERATED[changed])
    webui.post("/ditail/v1/cache/clear")
    assert alike(warm, generated(*GENERATED[changed]))  # of a batch one run may be kept, and the other is alone then
    assert warm != before


@pytest.mark.parametrize("changed", OPTIONS)
def test_options(webui: WebUI, changed: str):
    tagged = {"inversion_prompt": TAG + " (disc:1.4)"}
    fresh(webui, tagged)
    with option(webui, changed, OPTIONS[changed]):
        warm = make(webui, tagged)
        assert warm == fresh(webui, tagged)


def test_nothing_changed(webui: WebUI, probe: Probe):
    first = fresh(webui)
    probe.reset()
    assert make(webui) == first
    assert not probe.records().source_ran
    assert probe.records().loads == []


@pytest.mark.parametrize(
    ("fact", "changed"), [("scales", "positive scale"), ("source", "source"), ("picture", "picture")]
)
def test_a_planted_omission_is_seen(webui: WebUI, fact: str, changed: str):
    webui.post(f"/probe/blind?fact={fact}")
    try:
        assert not is_kept_truly(webui, *ARGUMENTS[changed])
    finally:
        webui.post("/probe/blind")
        webui.post("/ditail/v1/cache/clear")


def rewritten(webui: WebUI, path: Path) -> None:
    _copy(webui, "delta", path)


def made_v(webui: WebUI, path: Path) -> None:
    """``parameterization: v`` in the configuration beside the file."""
    file = path.with_suffix(".yaml")
    text = (webui.checkpoints / "vpred.yaml").read_text()
    file.unlink()
    file.write_text(text)
    os.utime(file)


@pytest.mark.parametrize("change", [rewritten, made_v])
@pytest.mark.parametrize("limit", [1, 2])
def test_a_source_that_became_another(webui: WebUI, trained: Path, change: Callable[..., None], limit: int):
    with option(webui, "sd_checkpoints_limit", limit):
        before = fresh(webui)
        change(webui, trained)
        warm = make(webui)
        assert warm == fresh(webui)
        assert warm != before


@pytest.mark.parametrize("change", [rewritten, made_v])
def test_a_target_that_became_another(webui: WebUI, trained: Path, change: Callable[..., None]):
    """While it is loaded, what was loaded counts; after another checkpoint was, what the file holds."""
    same = {"source_checkpoint": "same as target"}
    webui.post(ROUTE, {"sd_model_checkpoint": SOURCE})
    before = fresh(webui, same)
    change(webui, trained)
    assert make(webui, same) == before == fresh(webui, same)
    webui.post(ROUTE, {"sd_model_checkpoint": "alpha.safetensors"})
    webui.post(ROUTE, {"sd_model_checkpoint": SOURCE})
    warm = make(webui, same)
    assert warm == fresh(webui, same)
    assert warm != before


def test_a_target_whose_file_was_renamed(webui: WebUI, trained: Path):
    """It works from memory, with a source that has to be loaded, too."""
    webui.post(ROUTE, {"sd_model_checkpoint": SOURCE})
    other = {"source_checkpoint": "delta.safetensors"}
    before = fresh(webui, other)
    trained.rename(trained.with_suffix(".away"))
    try:
        assert fresh(webui, other) == before
        assert make(webui, {"source_checkpoint": "same as target"})
    finally:
        trained.with_suffix(".away").rename(trained)
