"""Other extensions in the target's UNet: the source and the record pass compute as the model would alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from harness.client import alike
from harness.installed import NEIGHBOURS
from harness.neighbours import Ask, apart
from harness.probe import Records
from harness.server import WebUI
from harness.state import unchanged_host

BETA = {"source_checkpoint": "beta.safetensors"}
SAME = {"source_checkpoint": "same as target"}
KEPT = ["forward", "cross_attention", "hook", "cat", "reference"]
WAYS = [*KEPT, "linear_class"]
"""With a replaced class nothing of the target's is kept: it may change from one call to the next."""
REFUSED = ["block", "self_attention", "aligned", "apply_model"]


BEFORE, AFTER = NEIGHBOURS
IN_TURN = pytest.mark.parametrize(
    ("ditail", "neighbour"),
    [(BETA, BEFORE), (BETA, AFTER), (SAME, AFTER), pytest.param(SAME, BEFORE, marks=pytest.mark.slow)],
    indirect=["neighbour"],
    ids=["beta-before", "beta-after", "same-after", "same-before"],
)


def in_turn(ways: list[str]) -> pytest.MarkDecorator:
    """Each way with another source behind a neighbour in one of the two folders, and with the target as its own source
    beside one in the other; the slow run has both in both.
    """
    cases = [
        pytest.param(way, ditail, folder, id=f"{way}-{name}", marks=[pytest.mark.slow] * (turn != number % 2))
        for number, way in enumerate(ways)
        for turn, name, ditail, folder in (
            *((0, "beta-before", BETA, BEFORE), (0, "same-after", SAME, AFTER)),
            *((1, "beta-after", BETA, AFTER), (1, "same-before", SAME, BEFORE)),
        )
    ]
    return pytest.mark.parametrize(("way", "ditail", "neighbour"), cases, indirect=["neighbour"])


@pytest.fixture(autouse=True)
def nothing_stays(webui: WebUI, ask: Ask) -> Iterator[None]:
    """A neighbour's next request takes away what it left, so the host is as it was."""
    with unchanged_host(webui):
        yield
        ask(None, "sample")


def of_the_source(records: Records) -> list[np.ndarray]:
    """What the source's UNet gave while inverting."""
    return [call.output for call in records.calls if not call.sampling and call.output is not None]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) > 0 and all((a == b).all() for a, b in zip(one, other, strict=True))


@in_turn(WAYS)
def test_both_effects_and_nothing_of_it_in_the_source(webui: WebUI, ask: Ask, way: str, ditail: dict[str, str]):
    plain, _ = ask(None)
    touched, _ = ask(None, way)
    alone, records = ask(ditail)
    webui.post("/ditail/v1/cache/clear")
    both, beside = ask(ditail, way)
    assert both.status == 200, both.body
    assert apart(touched, plain) > 2
    assert min(apart(both, other) for other in (alone, touched, plain)) > 2
    assert same(of_the_source(beside), of_the_source(records))
    assert sum(call.output is None for call in beside.calls) == sum(call.output is None for call in records.calls) > 0


@in_turn([*WAYS, *REFUSED])
def test_what_is_left_behind_does_not_enter_the_next_inversion(
    webui: WebUI, ask: Ask, way: str, ditail: dict[str, str]
):
    alone, records = ask(ditail)
    ask(ditail, way)
    webui.post("/ditail/v1/cache/clear")
    again, later = ask(ditail)  # the neighbour's own process has run by then; what it left was there until then
    assert again.pixels == alone.pixels
    assert same(of_the_source(later), of_the_source(records))


@pytest.mark.parametrize("neighbour", [AFTER], indirect=True)
def test_a_layer_inside_the_self_attention_that_somebody_replaced(webui: WebUI, ask: Ask):
    """Queries and keys are the source's where it is injected; the rest of what the neighbour does shows."""
    touched, _ = ask(None, "projections")
    alone, records = ask(BETA)
    webui.post("/ditail/v1/cache/clear")
    both, beside = ask(BETA, "projections")
    assert both.status == 200, both.body
    assert min(apart(both, other) for other in (alone, touched)) > 2
    assert same(of_the_source(beside), of_the_source(records))
    webui.post("/ditail/v1/cache/clear")
    again, later = ask(BETA)
    assert again.pixels == alone.pixels
    assert same(of_the_source(later), of_the_source(records))


@pytest.mark.parametrize("way", KEPT)
def test_what_is_kept_serves_with_and_without_a_neighbour(ask: Ask, way: str):
    ditail = {**BETA, "inversion_prompt": "a circle"}
    alone, _ = ask(ditail)
    both, kept = ask(ditail, way, seed=8)
    assert [call for call in kept.calls if call.output is None] == [], "features are the target's alone"
    again, later = ask(ditail)
    assert again.pixels == alone.pixels
    assert [call for call in later.calls if not call.sampling] == []
    assert apart(both, alone) > 2


@IN_TURN
def test_a_vae_that_somebody_tiles_encodes_the_sources_picture_and_is_told_from_others(
    webui: WebUI, ask: Ask, ditail: dict[str, str]
):
    alone, records = ask(ditail)
    both, beside = ask(ditail, "vae_tiles")
    assert both.status == 200, both.body
    first, tiled = of_the_source(records), of_the_source(beside)
    assert len(first) == len(tiled) > 0, "what was inverted without tiles is not taken for it"
    assert not same(first, tiled)
    again, later = ask(ditail)
    assert again.pixels == alone.pixels
    assert all(call.sampling for call in later.calls), "both are kept"


@pytest.mark.parametrize("way", REFUSED)
def test_what_cannot_work_is_refused_by_name_before_anything_is_loaded(ask: Ask, neighbour: str, way: str):
    answer, records = ask(BETA, way)
    assert answer.status == 422, answer.body
    assert f"'{neighbour}'" in answer.sentence
    assert records.calls == records.loads == []


@pytest.mark.parametrize("neighbour", [AFTER], indirect=True)
def test_the_other_picture_s_pass_is_left_alone(webui: WebUI, ask: Ask, neighbour: str):
    """It computes what it does without Ditail, bit for bit; the picture's has the source's feature."""
    _, first = ask(BETA)  # its recordings are kept
    scripts = {"alwayson_scripts": {neighbour: {"args": [["reference"]]}}}
    passes = {}
    for name, ditail in (("without", None), ("with", {**BETA})):
        webui.probe.reset(watch="output_blocks.4.0")
        assert webui.img2img(ditail, **scripts).status == 200
        watched, records = webui.probe.records().watched, webui.probe.records()
        assert len(watched) == 2 * len(records.calls) > 0, "no inversion, no record pass: two passes a call"
        passes[name] = (watched[0::2], watched[1::2])
    assert same(passes["with"][0], passes["without"][0])
    assert all((a != b).any() for a, b in zip(passes["with"][1], passes["without"][1], strict=True))
    assert len(passes["with"][0]) == len([call for call in first.calls if call.sampling and call.output is not None])


@pytest.mark.parametrize("neighbour", [AFTER], indirect=True)
def test_beside_another_picture_each_row_takes_its_own_source(ask: Ask):
    """Two generated contents: what the negative prompt's rows are given alone is told from the rest."""
    ditail = {**BETA, "content": "generated"}
    both, _ = ask(ditail, "reference", route="txt2img", batch_size=2)
    assert both.status == 200, both.body
    for index in range(2):
        single, _ = ask(ditail, "reference", route="txt2img", seed=7 + index)
        assert alike(both.pixels[-2:][index : index + 1], single.pixels[:1])
    ask(None, "sample", route="txt2img")
