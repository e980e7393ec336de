"""The arguments through the API: both forms, everything that can be wrong with them, and the routes."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
import pytest
from harness.client import circle, encode
from harness.server import WebUI
from harness.state import unchanged_host

from ditail_ext.settings import SAME_AS_TARGET, SAME_AS_TARGET_SHOWN, TABLE

pytestmark = pytest.mark.server("held")

BY_NAME = {"source_checkpoint": "beta.safetensors", "positive_scale": 2.0, "negative_scale": 1, "attention_ratio": 0.6}
BY_POSITION = [True, "beta.safetensors", "automatic", 2, 1.0, 0.8, 0.6]


def close(one: bytes, other: bytes) -> bool:
    """Equal but for rounding: the host encodes img2img's picture with random noise, which then cancels."""
    first, second = (np.frombuffer(pixels, np.uint8).astype(int) for pixels in (one, other))
    return first.shape == second.shape and np.abs(first - second).max() <= 1


def test_by_name_and_by_position_are_the_same(webui: WebUI):
    named, positional = webui.img2img(BY_NAME), webui.img2img(BY_POSITION)
    assert (named.status, positional.status) == (200, 200), (named.body, positional.body)
    assert named.infotext == positional.infotext
    assert close(named.pixels[0], positional.pixels[0])
    assert not close(named.pixels[0], webui.img2img().pixels[0])


def test_txt2img_takes_a_content_picture_in_base64(webui: WebUI):
    picture = encode(circle())
    named = webui.txt2img({**BY_NAME, "picture": picture})
    assert named.status == 200, named.body
    data_url = webui.txt2img({**BY_NAME, "picture": f"data:image/png;base64,{picture}"})
    assert named.pixels == data_url.pixels
    position = [*BY_POSITION, *[TABLE[name].default for name in list(TABLE)[len(BY_POSITION) :]], None, picture]
    assert named.pixels == webui.txt2img(position).pixels
    other = webui.txt2img({**BY_NAME, "picture": encode(circle(colour=(10, 200, 40)))})
    assert named.pixels != other.pixels


@pytest.mark.parametrize("off", [{"enabled": False}, [False], [], [False, "no such checkpoint"]])
def test_switched_off_is_the_ordinary_picture(webui: WebUI, off: object):
    answer = webui.txt2img(off)
    assert answer.pixels == webui.txt2img().pixels
    assert "Ditail" not in answer.infotext


@pytest.fixture(scope="module")
def broken(webui: WebUI) -> Iterator[str]:
    """A checkpoint file that ends too early."""
    whole = (webui.checkpoints / "alpha.safetensors").read_bytes()
    file = webui.checkpoints / "broken.safetensors"
    file.write_bytes(whole[: len(whole) // 3])
    webui.post("/sdapi/v1/refresh-checkpoints")
    yield file.name
    file.unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


LABELS = {name: f"{setting.label}: " for name, setting in TABLE.items()} | {"picture": "Content picture: "}

WRONG = {
    "misspelt": ({"positive_scal": 2.0}, "positive_scal"),
    "a text for a number": ({"positive_scale": "3"}, "positive_scale"),
    "a number for a text": ({"source_checkpoint": 3}, "source_checkpoint"),
    "true for a number": ({"refinements": True}, "refinements"),
    "null": ({"feature_ratio": None}, "feature_ratio"),
    "a megabyte": ({"source_checkpoint": "x" * 2**20}, "source_checkpoint"),
    "too large": ({"positive_scale": 10.5}, "positive_scale"),
    "below the range": ({"attention_ratio": -1}, "attention_ratio"),
    "no such choice": ({"layer_profile": "Default"}, "layer_profile"),
    "a text for true": ({"enabled": "yes"}, "enabled"),
    "no such checkpoint": ({"source_checkpoint": "bet"}, "source_checkpoint"),
    "a part of a name": ({"source_checkpoint": "alpha.safe"}, "source_checkpoint"),
    "a damaged checkpoint": ({"source_checkpoint": "broken.safetensors"}, "source_checkpoint"),
    "no such VAE": ({"source_vae": "none.vae.pt"}, "source_vae"),
    "by position": ([True, "same as target", "automatic", "3"], "positive_scale"),
    "enabled by position": ([1], "enabled"),
    "not base64": ({"picture": "?"}, "picture"),
    "no picture in base64": ({"picture": base64.b64encode(b"text").decode()}, "picture"),
    "picture of a wrong type": ({"picture": [1]}, "picture"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.usefixtures("broken")
def test_what_is_wrong_gets_a_sentence_and_leaves_nothing(webui: WebUI, case: str):
    args, field = WRONG[case]
    requests = [webui.txt2img] if field == "picture" else [webui.txt2img, webui.img2img]
    with unchanged_host(webui):
        for request in requests:
            answer = request(args)
            assert 400 <= answer.status < 500, answer.body
            assert answer.sentence.startswith("Ditail: ")
            assert LABELS.get(field, field) in answer.sentence
            assert answer.sentence[-1] in ".?"
            assert "\n" not in answer.sentence
            assert len(answer.sentence) < 400


def test_txt2img_without_a_picture_says_so(webui: WebUI):
    answer = webui.txt2img({})
    assert answer.status == 200, answer.body
    assert "Ditail content: generated by the source" in answer.infotext


def test_img2img_refuses_a_content_picture(webui: WebUI):
    answer = webui.img2img({"picture": encode(circle())})
    assert answer.status == 422
    assert answer.sentence.startswith("Ditail: Content picture: is for txt2img alone")


def test_the_schema(webui: WebUI):
    arguments = webui.get("/ditail/v1/schema").body["arguments"]
    assert [argument["name"] for argument in arguments] == [*TABLE, "mask", "picture"]
    listed = arguments[list(TABLE).index("source_checkpoint")]["choices"]
    assert {"same as target", "beta.safetensors", "twin.ckpt"} <= set(listed)


def test_script_info_lists_the_arguments(webui: WebUI):
    for entry in webui.get("/sdapi/v1/script-info").body:
        if entry["name"] == "ditail":
            labels = [setting.label for setting in TABLE.values()]
            labels += ["Region mask"] if entry["is_img2img"] else ["Region mask", "Content picture"]
            assert [argument["label"] for argument in entry["args"]] == labels
            defaults = [setting.default for setting in TABLE.values()]
            of_panel = [SAME_AS_TARGET_SHOWN if value == SAME_AS_TARGET else value for value in defaults]
            assert [argument["value"] for argument in entry["args"]][: len(TABLE)] == of_panel


def test_a_value_that_the_panel_shows_is_the_value(webui: WebUI):
    """What script-info says may be sent back."""
    shown = webui.img2img({"source_checkpoint": SAME_AS_TARGET_SHOWN})
    assert shown.pixels == webui.img2img({"source_checkpoint": SAME_AS_TARGET}).pixels
    assert shown.infotext == webui.img2img({"source_checkpoint": SAME_AS_TARGET}).infotext


def test_the_cache_fills_and_is_cleared(webui: WebUI):
    assert webui.post("/ditail/v1/cache/clear").body == {
        "inversions": 0,
        "bytes": 0,
        "feature_bytes": 0,
        "feature_bytes_in_ram": 0,
        "models": 0,
        "model_bytes": 0,
    }
    assert webui.img2img(BY_NAME).status == 200
    kept = webui.get("/ditail/v1/cache").body
    assert kept["inversions"] == 1
    assert kept["bytes"] > 0
    assert kept["models"] == 0  # the host itself holds the source
    assert webui.post("/ditail/v1/cache/clear").body["bytes"] == 0


def test_the_options_are_there(webui: WebUI):
    assert webui.get("/sdapi/v1/options").body["ditail_cache_mb"] == 256
