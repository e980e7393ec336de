"""With SDXL, SD2 and inpainting checkpoints, too, a descendant of the WebUI makes the WebUI's pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from harness.cases import MASKED_SAMPLERS, Case, masked
from harness.client import Answer
from harness.family_cases import FAMILY_CASES, MASKED_FAMILIES, TARGETS, aim, lora_of, source_of, with_families
from harness.pictures import NEAR, difference
from harness.probe import Records
from harness.server import WebUI

pytestmark = pytest.mark.server("reforge", "forge")

OfTheWebUI = tuple[dict[tuple[str, str], Answer], dict[tuple[str, str], Records]]

Record = Callable[[str, object], None]
"""Writes a figure into pytest's report in XML."""

NEAR_LATENTS = {"DDIM": 1e-3, "PLMS": 1e-3, "UniPC": 0.05}
"""Of latents of about 10; in the regenerated half alone, for the WebUI draws the rest from its posterior.

UniPC's timesteps are no whole numbers, and the descendants round what they tell the UNet.
"""

DRAWN = {("forge", "inpainting"), ("forge", "xl-inpainting")}
"""Where the host draws what it tells the UNet of the picture, and with another number each time."""


@pytest.fixture(scope="module")
def host(webui: WebUI, model_files: Path, family_files: Path, families_of_the_webui: OfTheWebUI) -> Iterator[WebUI]:
    """With their checkpoints; after the WebUI has answered, for two of them at a time are too much."""
    with with_families(webui, model_files, family_files):
        yield webui


@pytest.mark.parametrize(("family", "name"), FAMILY_CASES, ids=map(" ".join, FAMILY_CASES))
def test_the_picture_is_the_webui_s(
    host: WebUI, families_of_the_webui: OfTheWebUI, record_property: Record, family: str, name: str
):
    case, expected = FAMILY_CASES[family, name], families_of_the_webui[0][family, name]
    aim(host, family)
    answer = case.ask(host)
    assert answer.status == expected.status == 200, answer.sentence
    off = case.ask(host, feature_ratio=0, attention_ratio=0)
    figures = {"to the WebUI": difference(answer, expected), "by injection": difference(answer, off)}
    record_property(f"{host.host}, {family}, {name}", figures)
    assert figures["to the WebUI"] <= NEAR
    assert figures["by injection"] > 2 * NEAR


@pytest.mark.parametrize("sampler", MASKED_SAMPLERS)
@pytest.mark.parametrize("family", MASKED_FAMILIES)
def test_a_mask_holds_the_kept_region_at_the_source(
    host: WebUI, families_of_the_webui: OfTheWebUI, record_property: Record, family: str, sampler: str
):
    aim(host, family)
    of_host, of_webui = masked(host, sampler, source_of(family)), families_of_the_webui[1][family, sampler]
    found, wanted = (records.samples[0][..., :8] for records in (of_host, of_webui))
    difference_of_latents = float(np.abs(found - wanted).max())
    record_property(f"{host.host}, {family}, masked, {sampler}", difference_of_latents)
    assert difference_of_latents < NEAR_LATENTS[sampler]


@pytest.mark.parametrize("family", TARGETS)
def test_what_is_kept_makes_the_picture_of_a_fresh_start(host: WebUI, family: str):
    """A second picture with the same source, and one after a LoRA that the host has merged, bit for bit."""
    limit = 1 if (host.host, family) in DRAWN else 0
    aim(host, family)
    plain = Case(ditail=source_of(family), request={"seed": 8, "cfg_scale": 5})
    host.post("/ditail/v1/cache/clear")
    wanted = plain.ask(host)
    Case(ditail=source_of(family), request={"prompt": lora_of(family)}).ask(host)
    assert difference(plain.ask(host), wanted) <= limit
    host.post("/ditail/v1/cache/clear")
    assert difference(plain.ask(host), wanted) <= limit


@pytest.mark.parametrize(
    ("family", "source"), [("xl", "alpha"), ("sd2", "xl-beta"), ("inpainting", "xl-beta"), ("xl", "sd2-beta")]
)
def test_a_source_with_other_latents_is_refused(host: WebUI, family: str, source: str):
    aim(host, family)
    host.probe.reset()
    answer = Case(ditail={"source_checkpoint": f"{source}.safetensors"}).ask(host)
    assert answer.status == 422
    assert all(word in answer.sentence for word in (source, "SDXL", "their latents are not the same"))
    assert host.probe.records().calls == []


@pytest.mark.parametrize(("family", "source"), [("sd2", "inpainting"), ("xl", "xl-inpainting")])
def test_an_inpainting_checkpoint_is_no_source(host: WebUI, family: str, source: str):
    aim(host, family)
    answer = Case(ditail={"source_checkpoint": f"{source}.safetensors"}).ask(host)
    assert (answer.status, "takes 9 channels" in answer.sentence) == (422, True)
