"""Whatever fails: a sentence, and everything as it was before."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.client import Answer
from harness.probe import Probe
from harness.server import WebUI
from harness.state import options, unchanged_host
from safetensors.torch import load_file, save_file

BETA = {"source_checkpoint": "beta.safetensors"}


@pytest.fixture
def unchanged(webui: WebUI) -> Iterator[None]:
    """The host's state before and after the test."""
    with unchanged_host(webui):
        yield


@pytest.fixture
def bad_file(webui: WebUI) -> Iterator[Callable[[str, Callable[[bytes], bytes]], str]]:
    """Puts a damaged copy of a checkpoint into the WebUI's folder for the time of a test."""
    made: list[Path] = []

    def make(name: str, damage: Callable[[bytes], bytes]) -> str:
        original = webui.checkpoints / f"twin{Path(name).suffix}"
        path = webui.checkpoints / name
        path.write_bytes(damage(original.read_bytes()))
        made.append(path)
        assert webui.post("/sdapi/v1/refresh-checkpoints").status == 200
        return name

    yield make
    for path in made:
        path.unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


def refused(answer: Answer, *words: str) -> None:
    assert answer.status == 422, answer.body
    assert all(word in answer.sentence for word in words), answer.sentence
    assert answer.sentence.endswith(".")


@pytest.fixture
def without_numbers(webui: WebUI, model_files: Path) -> Iterator[str]:
    """A source whose UNet computes no numbers, as one may in half precision."""
    tensors = load_file(model_files / "checkpoints" / "beta.safetensors")
    tensors["model.diffusion_model.out.2.bias"].fill_(float("nan"))
    path = webui.checkpoints / "no-numbers.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    shutil.copyfile(model_files / "checkpoints" / "beta.yaml", path.with_suffix(".yaml"))
    assert webui.post("/sdapi/v1/refresh-checkpoints").status == 200
    yield path.name
    path.unlink()
    path.with_suffix(".yaml").unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


@pytest.mark.usefixtures("unchanged")
class TestRefusals:
    def test_a_source_that_computes_no_numbers(self, webui: WebUI, probe: Probe, without_numbers: str):
        """And what it computed is not kept: it would fail again with whatever mends it."""
        for _ in range(2):
            probe.reset()
            refused(webui.img2img({"source_checkpoint": without_numbers}), "not a number", "even in single precision")
            assert all(call.checkpoint == without_numbers for call in probe.records().calls)
        assert webui.get("/ditail/v1/cache").body["inversions"] == 0
        failed = webui.txt2img({"source_checkpoint": without_numbers})
        assert failed.status != 200
        assert webui.get("/ditail/v1/cache").body["inversions"] == 0

    @pytest.mark.parametrize("name", ["nothing", "a", "", "[deadbeef00]", "beta.safetensor"])
    def test_unknown_checkpoint(self, webui: WebUI, probe: Probe, name: str):
        if name:
            refused(webui.img2img({"source_checkpoint": name}), "Source checkpoint", f"'{name}'")
        else:
            assert webui.img2img({"source_checkpoint": name}).status == 200
        assert probe.records().loads == []

    def test_ambiguous_checkpoint(self, webui: WebUI):
        refused(webui.img2img({"source_checkpoint": "twin"}), "twin.ckpt", "twin.safetensors")

    def test_truncated_file(self, webui: WebUI, probe: Probe, bad_file):
        name = bad_file("short.safetensors", lambda content: content[: len(content) // 2])
        refused(webui.img2img({"source_checkpoint": name}), name, "damaged")
        assert probe.records().loads == []

    def test_header_of_garbage(self, webui: WebUI, bad_file):
        name = bad_file("garbage.safetensors", lambda content: b"\xff" * 4096)
        refused(webui.img2img({"source_checkpoint": name}), name, "damaged")

    def test_pickle_of_garbage(self, webui: WebUI, bad_file):
        name = bad_file("garbage.ckpt", lambda content: content[: len(content) // 2])
        refused(webui.img2img({"source_checkpoint": name}), name)

    def test_unknown_vae(self, webui: WebUI):
        refused(webui.img2img({**BETA, "source_vae": "no.safetensors"}), "Source VAE", "no.safetensors")

    def test_no_steps(self, webui: WebUI):
        refused(webui.img2img(BETA, denoising_strength=0.1), "denoising strength")


def test_token_merging(webui: WebUI):
    with options(webui, {"token_merging_ratio": 0.5}):
        refused(webui.img2img(BETA), "token merging")
