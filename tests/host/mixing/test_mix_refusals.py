"""Checkpoints that cannot be mixed: a sentence, and nothing is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from harness.mixes import DELTA, UNET, mixed
from harness.probe import Probe
from harness.server import WebUI
from harness.state import unchanged_host
from safetensors.torch import load_file, save_file


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _unchanged(self, webui: WebUI) -> Iterator[None]:
        with unchanged_host(webui):
            yield

    def refused(self, webui: WebUI, name: str, *words: str) -> None:
        answer = webui.img2img(mixed(0.5, name))
        assert answer.status == 422, answer.body
        assert answer.sentence.startswith("Ditail: Mix target with: ")
        assert answer.sentence.endswith(".")
        assert all(word in answer.sentence for word in (name, *words)), answer.sentence

    @pytest.mark.parametrize("weight", [0.0, 0.5])
    def test_an_unknown_checkpoint(self, webui: WebUI, probe: Probe, weight: float):
        answer = webui.img2img(mixed(weight, "nothing"))
        assert (answer.status, "no checkpoint named 'nothing'" in answer.sentence) == (422, True), answer.body
        assert probe.records().loads == []

    @pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
    def test_another_architecture(self, webui: WebUI, probe: Probe, add_file: Callable[[str], Path], suffix: str):
        tensors = load_file(webui.checkpoints / DELTA)
        key = f"{UNET}output_blocks.3.1.proj_in.weight"
        tensors[key] = tensors[key].flatten(1)  # as in SD2
        path = add_file(f"other{suffix}")
        if suffix == ".ckpt":
            torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=False)
        else:
            save_file(tensors, path)
        webui.post("/sdapi/v1/refresh-checkpoints")
        self.refused(webui, path.name, "another architecture", "output_blocks.3.1.proj_in.weight")
        if suffix == ".safetensors":
            assert probe.records().loads == []  # before anything is touched

    @pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
    def test_a_damaged_file(self, webui: WebUI, add_file: Callable[[str], Path], suffix: str):
        path = add_file(f"short{suffix}")
        content = (webui.checkpoints / f"twin{suffix}").read_bytes()
        path.write_bytes(content[: len(content) // 2])
        webui.post("/sdapi/v1/refresh-checkpoints")
        self.refused(webui, path.name)
