"""The source is a second model beside the target: loads counted, the target untouched whatever becomes of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from harness.probe import Probe
from harness.server import WebUI

pytestmark = pytest.mark.server("main", "one-yaml")

BETA = {"source_checkpoint": "beta.safetensors"}
DELTA = {"source_checkpoint": "delta.safetensors"}


@contextmanager
def budget(webui: WebUI, megabytes: int) -> Iterator[None]:
    """Main memory for waiting sources; -1 is automatic."""
    webui.post("/sdapi/v1/options", {"ditail_models_mb": megabytes})
    try:
        yield
    finally:
        webui.post("/sdapi/v1/options", {"ditail_models_mb": -1})


def loads(webui: WebUI, probe: Probe, source: dict[str, object], seed: int = 1, **request: object) -> list[str]:
    """The checkpoints that a request loads; its picture is new to the cache by its scale."""
    probe.reset()
    answer = webui.img2img({**source, "positive_scale": 1 + seed / 10}, **request)
    assert answer.status == 200, answer.body
    assert answer.infotext is not None
    assert "Ditail source: beta" in answer.infotext or source != BETA
    return probe.records().loads


def waiting(webui: WebUI) -> tuple[int, int]:
    state = webui.get("/ditail/v1/cache").body
    return state["models"], state["model_bytes"]


def test_one_load_for_a_new_source_and_none_for_a_known_one(webui: WebUI, probe: Probe):
    before = probe.state()
    assert loads(webui, probe, BETA, 1) == ["beta.safetensors"]
    assert loads(webui, probe, BETA, 2) == []
    assert loads(webui, probe, DELTA, 3) == ["delta.safetensors"]
    assert loads(webui, probe, BETA, 4) == []
    assert waiting(webui)[0] == 2
    assert probe.state() == before


def test_without_a_budget_each_new_picture_loads_its_source(webui: WebUI, probe: Probe):
    before = probe.state()
    with budget(webui, 0):
        assert loads(webui, probe, BETA, 1) == ["beta.safetensors"]
        assert waiting(webui) == (0, 0)
        assert loads(webui, probe, BETA, 2) == ["beta.safetensors"]
    assert probe.state() == before


def test_without_a_budget_nothing_holds_on_to_the_source(webui: WebUI, probe: Probe):
    def held() -> dict[str, int]:
        webui.post("/ditail/v1/cache/clear")
        return webui.get("/probe/held").body

    with budget(webui, 0):
        loads(webui, probe, BETA, 1)
        first = held()
        loads(webui, probe, BETA, 2)
        loads(webui, probe, DELTA, 3)
        assert held() == first
    loads(webui, probe, BETA, 4)
    assert webui.get("/probe/held").body["models"] == first["models"] + 1
    assert held() == first
    assert first["models"] == 1


def test_the_longest_unused_source_makes_room(webui: WebUI, probe: Probe):
    loads(webui, probe, BETA, 1)
    _, size = waiting(webui)
    with budget(webui, size // 2**20 + 1):
        assert loads(webui, probe, DELTA, 2) == ["delta.safetensors"]
        assert waiting(webui)[0] == 1
        assert loads(webui, probe, BETA, 3) == ["beta.safetensors"]


@pytest.mark.parametrize("how", ["clear", "unload"])
def test_waiting_sources_are_let_go(webui: WebUI, probe: Probe, how: str):
    loads(webui, probe, BETA, 1)
    assert waiting(webui)[0] == 1
    if how == "clear":
        webui.post("/ditail/v1/cache/clear")
    else:
        webui.post("/sdapi/v1/unload-checkpoint")
        webui.post("/sdapi/v1/reload-checkpoint")
    assert waiting(webui) == (0, 0)
    assert loads(webui, probe, BETA, 2) == ["beta.safetensors"]


def test_a_changed_file_is_loaded_again(webui: WebUI, probe: Probe):
    """And what the new file computes is what comes out, not what the old one did."""
    name = "overwritten.safetensors"
    path = webui.checkpoints / name
    shutil.copyfile(webui.checkpoints / "delta.safetensors", path)
    if (webui.checkpoints / "delta.yaml").is_file():
        shutil.copyfile(webui.checkpoints / "delta.yaml", path.with_suffix(".yaml"))
    webui.post("/sdapi/v1/refresh-checkpoints")
    try:
        source = {"source_checkpoint": name}
        first = webui.img2img(source).pixels
        path.unlink()
        shutil.copyfile(webui.checkpoints / "beta.safetensors", path)
        probe.reset()
        changed = webui.img2img(source).pixels
        assert probe.records().loads == [name]
        assert changed != first
        webui.post("/ditail/v1/cache/clear")
        assert changed == webui.img2img(source).pixels
    finally:
        path.unlink()
        path.with_suffix(".yaml").unlink(missing_ok=True)
        webui.post("/sdapi/v1/refresh-checkpoints")


def test_source_and_target_change_places_without_a_load(webui: WebUI, probe: Probe):
    """In a request that names its checkpoint, as grids and plots do."""
    to_beta, to_alpha = (
        {"override_settings": {"sd_model_checkpoint": f"{name}.safetensors"}} for name in ("beta", "alpha")
    )
    alpha = {"source_checkpoint": "alpha.safetensors"}
    expected = webui.img2img(alpha, **to_beta)
    webui.txt2img()  # the host loads alpha again
    before = probe.state()
    webui.post("/ditail/v1/cache/clear")
    assert loads(webui, probe, BETA, 1) == ["beta.safetensors"]
    probe.reset()
    swapped = webui.img2img(alpha, **to_beta)
    assert probe.records().loads == []
    assert probe.state()["checkpoint"] == "beta.safetensors"
    assert swapped.pixels == expected.pixels
    assert loads(webui, probe, BETA, 2, **to_alpha) == []
    webui.txt2img()
    assert probe.state() == before


def test_the_picture_is_the_same_whether_the_source_waited_or_not(webui: WebUI, probe: Probe):
    fresh = webui.img2img(BETA).pixels
    webui.img2img({**BETA, "positive_scale": 1.5})
    again = webui.img2img({**BETA, "negative_scale": 0.6})
    with budget(webui, 0):
        webui.post("/ditail/v1/cache/clear")
        assert webui.img2img({**BETA, "negative_scale": 0.6}).pixels == again.pixels
        webui.post("/ditail/v1/cache/clear")
        assert webui.img2img(BETA).pixels == fresh


@pytest.mark.parametrize("throw", ["RuntimeError", "OutOfMemoryError", "KeyError"])
def test_a_source_that_cannot_be_built(webui: WebUI, probe: Probe, throw: str):
    """Once for lack of memory: it is tried again with what the target can spare."""
    ordinary, before = webui.txt2img().pixels, probe.state()
    probe.reset(throw_load="beta.safetensors", throw=throw)
    answer = webui.img2img(BETA)
    if throw == "OutOfMemoryError":
        assert answer.status == 200, answer.body
        assert probe.records().loads == ["beta.safetensors"] * 2
    else:
        assert answer.status == 422
        assert "beta.safetensors" in answer.sentence
        assert throw in answer.sentence
        assert waiting(webui) == (0, 0)
    assert probe.state() == before
    assert webui.txt2img().pixels == ordinary
