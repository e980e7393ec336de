"""Exceptions, lack of memory and stops at every point of a request, for every way in which the host swaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness.client import Answer
from harness.server import WebUI
from harness.state import options, unchanged_host


@dataclass(frozen=True)
class Swap:
    """A way in which the host comes from the target to the source and back."""

    target: str
    source: str
    limit: int = 1


SWAPS = {
    "new object": Swap("alpha.safetensors", "beta.safetensors"),
    "in place": Swap("twin.safetensors", "twin.ckpt"),
    "two held": Swap("alpha.safetensors", "beta.safetensors", limit=2),
    "no swap": Swap("alpha.safetensors", "same as target"),
}


@dataclass(frozen=True)
class Host:
    """A WebUI with a target, and the request that makes it swap."""

    webui: WebUI
    swap: Swap

    def img2img(self, **request: object) -> Answer:
        return self.webui.img2img({"source_checkpoint": self.swap.source}, **request)


@pytest.fixture(scope="module", params=SWAPS)
def swapping(request: pytest.FixtureRequest, webui: WebUI) -> Iterator[Host]:
    """The options for one of the ways, one after the other."""
    swap = SWAPS[request.param]
    with options(webui, {"sd_checkpoints_limit": swap.limit, "sd_model_checkpoint": swap.target}):
        if swap.limit > 1:
            webui.img2img({"source_checkpoint": swap.source})  # both are held from here on
        yield Host(webui, swap)
    webui.txt2img(steps=2)  # what was held beyond the usual limit goes


@pytest.fixture
def host(swapping: Host) -> Iterator[Host]:
    with unchanged_host(swapping.webui):
        yield swapping


@pytest.mark.parametrize("call", [2, 4, 5, 6])
def test_an_exception_in_the_unet(host: Host, call: int):
    """The second call inverts, the fourth records, the fifth replays, the sixth is the next step's."""
    host.webui.probe.reset(throw_at=call)
    answer = host.img2img()
    assert answer.status == 500
    assert "thrown by the probe" in answer.sentence
    assert host.webui.probe.records().calls[-1].output is None


def test_out_of_memory_when_the_source_loads(host: Host):
    """It is tried once more with what the target can spare, so the picture is made after all, and is Ditail's."""
    assert host.img2img().status == 200
    expected = host.webui.probe.records().samples[-1]
    host.webui.post("/ditail/v1/cache/clear")
    host.webui.probe.reset(throw_load=host.swap.source, throw="OutOfMemoryError")
    answer = host.img2img()
    assert answer.status == 200, answer.body
    records = host.webui.probe.records()
    assert records.loads.count(host.swap.source) in (0, 2)
    assert host.swap.target not in records.loads
    assert abs(records.samples[0] - expected).max() < 1e-3  # the VAE's encoder draws random numbers


def test_another_failure_when_the_source_loads(host: Host):
    host.webui.probe.reset(throw_load=host.swap.source, throw="KeyError")
    answer = host.img2img()
    loads = host.webui.probe.records().loads
    assert loads in ([], [host.swap.source])
    if loads:
        assert answer.status == 422
        assert answer.sentence.startswith(f"Ditail: Source checkpoint: '{host.swap.source}")
        assert "KeyError" in answer.sentence
    else:
        assert answer.status == 200


@pytest.mark.parametrize("how", ["interrupt", "skip", "stop_generating"])
def test_a_stop_during_the_inversion(host: Host, how: str):
    host.webui.probe.reset(stop_at=2, stop=how)
    answer = host.img2img(n_iter=2)
    assert answer.status == 200, answer.body
    assert answer.body["images"] == []
    assert len(host.webui.probe.records().calls) == 2


@pytest.mark.parametrize("call", [4, 5, 6])
def test_a_stop_during_sampling(host: Host, call: int):
    host.webui.probe.reset(stop_at=call)
    assert host.img2img().status == 200
    assert len(host.webui.probe.records().calls) <= call + 1


def test_success(host: Host):
    for _ in range(2):
        assert host.img2img().status == 200


@pytest.mark.parametrize("call", [2, 4, 5])
def test_out_of_memory_in_the_unet(host: Host, call: int):
    host.webui.probe.reset(throw_at=call, throw="OutOfMemoryError")
    answer = host.img2img()
    assert answer.status == 503
    assert answer.sentence.startswith("Ditail: There is not enough memory for Ditail; use a smaller size")
    assert host.webui.get("/ditail/v1/cache").body["feature_bytes"] == 0
