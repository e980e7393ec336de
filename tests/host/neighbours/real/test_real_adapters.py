"""The real ControlNet extension's other models, small and random: IP-Adapter, LLLite, Control-LoRA, one for SDXL."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from harness.beside import (
    SOURCES,
    XL,
    XL_SOURCES,
    Case,
    aimed,
    ask,
    both_effects_and_nothing_else,
    settle,
    the_same_without_ditail,
    the_same_without_neighbours,
)
from harness.controls import listed, place_of, unit
from harness.families import families_in
from harness.models import control
from harness.probe import Probe
from harness.server import Setup, WebUI
from harness.servers import SETUPS

pytestmark = pytest.mark.server("real")

BLOCKS = ("input_blocks.4", "output_blocks.4", "output_blocks.7")
XL_BLOCKS = ("input_blocks.4", "output_blocks.1", "output_blocks.4")
"""Some that have attention."""
MODELS = ["ControlNet", "IP-Adapter", "LLLite", "Control-LoRA", "SDXL", "IP-Adapter-SDXL", "LLLite-SDXL"]


def embedding() -> str:
    """A picture's embedding as the API takes it in the place of a picture: nobody has to make it of one."""
    file = io.BytesIO()
    torch.save({"image_embeds": torch.randn(1, control.EMBEDDED, generator=torch.Generator().manual_seed(9))}, file)
    return base64.b64encode(file.getvalue()).decode("ascii")


def case(webui: WebUI, name: str, **changed: Any) -> Case:
    if name.startswith("IP-Adapter"):
        changed |= {"image": None, "ipadapter_input": [embedding()], "module": "ip-adapter_clip_sd15"}
    asked = unit(webui, f"{name.lower()}_tiny", **changed)
    return Case(asked, target=XL) if name.endswith("SDXL") else Case(asked)


@contextmanager
def equipped(webui: WebUI, models: Path, families: Path) -> Iterator[WebUI]:
    """With all of them, and with checkpoints of SDXL."""
    place, alpha, xl = place_of(webui), models / "checkpoints" / "alpha.safetensors", families / XL
    control.write(alpha, place / "controlnet_tiny.safetensors")
    control.write_lora(alpha, place / "control-lora_tiny.safetensors")
    control.write_ip_adapter(alpha, place / "ip-adapter_tiny.safetensors")
    control.write_lllite(alpha, place / "lllite_tiny.safetensors", BLOCKS)
    control.write(xl, place / "sdxl_tiny.safetensors")
    control.write_ip_adapter(xl, place / "ip-adapter-sdxl_tiny.safetensors")
    control.write_lllite(xl, place / "lllite-sdxl_tiny.safetensors", XL_BLOCKS)
    with listed(webui), families_in(webui, families):
        yield webui


@pytest.fixture(scope="module")
def beside(webui: WebUI, model_files: Path, family_files: Path) -> Iterator[WebUI]:
    with equipped(webui, model_files, family_files):
        yield webui


@pytest.fixture(scope="module")
def without_ditail(model_files: Path, family_files: Path, webui: WebUI) -> Iterator[WebUI]:
    """A WebUI with the same neighbours and no Ditail."""
    other = WebUI(model_files, Setup(real=SETUPS["real"].real, folder=""))
    with equipped(other, model_files, family_files):
        other.with_alpha()  # the first picture of all
        yield other
    other.stop()


@pytest.fixture(scope="module")
def without_neighbours(model_files: Path, family_files: Path, webui: WebUI) -> Iterator[WebUI]:
    """A WebUI with Ditail and none of them."""
    other = WebUI(model_files, Setup())
    with families_in(other, family_files):
        other.with_alpha()
        yield other
    other.stop()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", MODELS)
def test_both_effects_and_nothing_else(beside: WebUI, probe: Probe, name: str, source: str):
    sources = XL_SOURCES if name.endswith("SDXL") else SOURCES
    both_effects_and_nothing_else(beside, case(beside, name), sources[source])


@pytest.mark.parametrize("name", MODELS)
def test_without_weight_it_is_ditail_alone(beside: WebUI, probe: Probe, name: str):
    asked = case(beside, name, weight=0.0)
    with aimed(beside, asked.target):
        settle(beside, asked)
        alone = ask(beside, SOURCES["itself"], asked.base)
        assert ask(beside, SOURCES["itself"], asked.base, asked.asked).pixels[0] == alone.pixels[0]


@pytest.mark.parametrize("name", MODELS)
def test_with_ditail_off(beside: WebUI, without_ditail: WebUI, name: str):
    the_same_without_ditail(beside, without_ditail, case(beside, name))


def test_with_all_of_them_off(beside: WebUI, without_neighbours: WebUI):
    the_same_without_neighbours(beside, without_neighbours)
    the_same_without_neighbours(beside, without_neighbours, XL_SOURCES, XL)
