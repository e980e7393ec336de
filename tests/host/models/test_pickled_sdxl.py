"""An SDXL checkpoint as a ``.ckpt``: for what it is, and not for how it is packed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from harness.server import WebUI
from harness.state import options, unchanged_host
from safetensors.torch import load_file

pytestmark = pytest.mark.server("others")

BETA = {"source_checkpoint": "xl-beta.safetensors"}


@pytest.fixture
def pickled(other_families: WebUI) -> Iterator[str]:
    """xl-beta as a ``.ckpt``."""
    path = other_families.checkpoints / "xl-pickled.ckpt"
    whole = other_families.checkpoints / BETA["source_checkpoint"]
    torch.save({"state_dict": load_file(whole)}, path, _use_new_zipfile_serialization=False)
    shutil.copyfile(whole.with_suffix(".yaml"), path.with_suffix(".yaml"))
    other_families.post("/sdapi/v1/refresh-checkpoints")
    yield path.name
    path.unlink()
    path.with_suffix(".yaml").unlink()
    other_families.post("/sdapi/v1/refresh-checkpoints")


def test_of_either_format_it_is_no_source_for_sd1(other_families: WebUI, pickled: str):
    """Before it was looked at what a pickle holds, the picture was garbage."""
    with unchanged_host(other_families):
        expected = other_families.img2img(BETA)
        answer = other_families.img2img({"source_checkpoint": pickled})
    assert answer.status == expected.status == 422, answer.body
    assert answer.sentence.startswith(f"Ditail: Source checkpoint: '{pickled}")
    why, wanted = (sentence.partition("' is ")[2] for sentence in (answer.sentence, expected.sentence))
    assert why == wanted != ""


def test_a_pickled_one_is_as_good_a_source(other_families: WebUI, pickled: str):
    with options(other_families, {"sd_model_checkpoint": "xl-alpha.safetensors"}):
        expected = other_families.img2img(BETA, steps=4)
        assert expected.status == 200, expected.body
        assert other_families.img2img({"source_checkpoint": pickled}, steps=4).pixels == expected.pixels
