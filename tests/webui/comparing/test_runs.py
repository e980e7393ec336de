"""Which finished pictures can be compared, and the request by which each is made once more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from ditail_ext.settings import Settings


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (shade, shade, shade))


@pytest.fixture
def runs(host: SimpleNamespace) -> Any:
    state = SimpleNamespace(interrupted=False, skipped=False)
    model = SimpleNamespace(sd_checkpoint_info=SimpleNamespace(name="target.safetensors"))
    host.fake(shared={"state": state, "sd_model": model})
    return host.load("comparing.runs")


def request(**more: Any) -> SimpleNamespace:
    usual = {
        "is_api": False,
        "prompt": "a __wildcard__",
        "negative_prompt": "",
        "seed": -1,
        "subseed": -1,
        "styles": ["s"],
    }
    usual |= {
        "n_iter": 2,
        "batch_size": 1,
        "override_settings": {"x": 1},
        "extra_generation_params": {},
        "comments": {},
    }
    return SimpleNamespace(**{**usual, **more})


def result(count: int, grid: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        images=[*([picture(255)] * grid), *(picture(index) for index in range(count))],
        infotexts=[*(["the grid"] * grid), *(f"picture {index}" for index in range(count))],
        index_of_first_image=int(grid),
        all_prompts=[f"a cat {index}" for index in range(count)],
        all_negative_prompts=["blurry"] * count,
        all_seeds=[100 + index for index in range(count)],
        all_subseeds=[7] * count,
    )


def made(
    runs: Any, p: SimpleNamespace, count: int = 1, grid: bool = False, asked: Any = None, **settings: Any
) -> None:
    runs.keep_request(p)
    p.init_latent = "heavy"
    p.override_settings["changed"] = True
    runs.remember(p, result(count, grid), asked or SimpleNamespace(settings=Settings(**settings), picture=None))


@pytest.mark.parametrize("grid", [False, True])
def test_each_picture_of_a_batch_is_one_of_its_own(runs: Any, grid: bool):
    made(runs, request(init_images=[picture(50)]), 2, grid)
    for index in range(2):
        run = runs.last.get(f"picture {index}")
        assert run.result.getpixel((0, 0)) == (index,) * 3
        assert (run.request.prompt, run.request.seed, run.request.styles) == (f"a cat {index}", 100 + index, [])
        assert (run.request.n_iter, run.request.batch_size) == (1, 1)
        assert run.request.do_not_save_samples
        assert run.picture.getpixel((0, 0)) == (50,) * 3
    assert runs.last.get("the grid") is None


def test_the_request_is_as_it_was_before_anybody_prepared_it(runs: Any):
    made(runs, request(init_images=[picture(50)], init_latent="of an earlier run"))
    kept = runs.last.get("picture 0").request
    assert not hasattr(kept, "init_latent")
    assert kept.override_settings == {"x": 1, "sd_model_checkpoint": "target.safetensors"}
    again = runs.again(runs.last.get("picture 0"))
    again.override_settings["mine"] = again.comments["mine"] = 1
    assert "mine" not in kept.override_settings
    assert "mine" not in kept.comments


def test_of_several_pictures_each_has_its_own_content(runs: Any):
    made(runs, request(init_images=[picture(50), picture(60)]), 2)
    assert runs.last.get("picture 1").picture.getpixel((0, 0)) == (60,) * 3
    assert len(runs.last.get("picture 1").request.init_images) == 1


@pytest.mark.parametrize(
    ("content", "shade"), [("automatic", 80), ("picture", 80), ("generated", None)], ids=lambda value: str(value)
)
def test_txt2img_s_content_is_its_picture_unless_it_was_generated(runs: Any, content: str, shade: int | None):
    made(runs, request(), asked=SimpleNamespace(settings=Settings(content=content), picture=picture(80)))
    found = runs.last.get("picture 0").picture
    assert (None if found is None else found.getpixel((0, 0))[0]) == shade


def test_nothing_is_kept_of_the_api_an_interrupted_run_or_one_without_a_source(runs: Any, host: SimpleNamespace):
    made(runs, request(is_api=True))
    made(runs, request(), aggregation="alone")
    host.modules.shared.state.interrupted = True
    made(runs, request())
    assert runs.last.get("picture 0") is None


def test_the_oldest_goes(runs: Any):
    kept = runs.Runs(2)
    for name in ("a", "b", "a", "c"):
        kept.put(runs.Run(None, picture(0), None, name))
    assert [name for name in "abc" if kept.get(name)] == ["a", "c"]
