"""Other extensions in the request: prompts that they write, copies that they make, samplers that they wrap."""

from __future__ import annotations

import pytest
from harness.neighbours import SEVERAL, Ask
from harness.probe import Probe, Records
from harness.server import WebUI
from harness.state import unchanged_host

BETA = {"source_checkpoint": "beta.safetensors"}
TEMPLATE = "a {red|blue} circle"


def recorded(records: Records) -> int:
    """Record passes: they are broken off, so they give nothing."""
    return sum(call.output is None for call in records.calls)


@pytest.mark.parametrize("route", ["img2img", "txt2img"])
def test_prompts_are_final_before_the_source_is_told(ask: Ask, route: str):
    expected, records = ask(BETA, route=route, prompt="a red circle")
    found, others = ask(BETA, "prompts", route=route, prompt=TEMPLATE)
    assert found.status == 200, found.body
    assert found.pixels == expected.pixels
    assert others.loads == []
    assert "prompt" not in str(found.info.get("extra_generation_params", {}).get("Ditail without effect", ""))
    assert all(call.sampling for call in others.calls), "the same inversion, or the same run, is found again"
    assert len(records.calls) > len(others.calls)


@pytest.mark.parametrize("route", ["img2img", "txt2img"])
def test_more_prompts_than_were_asked_for(webui: WebUI, ask: Ask, route: str):
    expected = [ask(BETA, route=route, prompt=prompt)[0].pixels[0] for prompt in ("a red circle", "a blue circle")]
    webui.post("/ditail/v1/cache/clear")
    found, records = ask(BETA, "combinatorial", route=route, prompt=TEMPLATE)
    assert found.status == 200, found.body
    assert found.pixels[-2:] == expected
    assert len(set(expected)) == 2
    assert records.loads == ["beta.safetensors"]


def test_a_prompt_that_changes_after_the_inversion_is_inverted_again(ask: Ask):
    expected, _ = ask(BETA, prompt="a blue circle", n_iter=2)
    found, records = ask(BETA, "late_prompts", prompt=TEMPLATE, n_iter=2)
    assert found.status == 200, found.body
    assert found.pixels[-2:] == expected.pixels[-2:]
    assert recorded(records) == 0, "the target's features for this inversion are there already"


def test_with_an_inversion_prompt_of_its_own_nothing_is_inverted_again(ask: Ask):
    ditail = {**BETA, "inversion_prompt": "a circle"}
    ask(ditail, prompt="a blue circle")
    _, records = ask(ditail, "late_prompts", prompt=TEMPLATE)
    assert all(call.sampling for call in records.calls)


def test_a_content_that_was_generated_with_another_prompt_is_refused(webui: WebUI, ask: Ask):
    with unchanged_host(webui):
        answer, _ = ask(BETA, "late_prompts", route="txt2img", prompt=TEMPLATE)
        assert answer.status == 422, answer.body
        assert "changes the prompt" in answer.sentence


def test_the_authors_ditail_is_refused_before_it_has_done_anything(webui: WebUI, probe: Probe):
    """It takes its changes away only after sampling, to which a request that is refused does not come."""
    on = {"alwayson_scripts": {"DiffusionCocktail": {"args": ["a picture", True]}}}
    changed = webui.txt2img(**on).pixels
    with unchanged_host(webui):
        ordinary = webui.txt2img().pixels
        probe.reset()
        answer, records = webui.img2img(BETA, **on), probe.records()
        assert answer.status == 422, answer.body
        assert "'z-neighbour'" in answer.sentence
        assert records.calls == records.loads == []
        assert webui.txt2img().pixels == ordinary != changed


def passes(records: Records) -> list[int]:
    """Record passes of each of a request's samplings."""
    return [recorded(records), len(records.samples)]


@pytest.mark.parametrize("way", ["copies", "sample"])
@pytest.mark.parametrize("what", SEVERAL)
def test_every_pass_is_injected(webui: WebUI, ask: Ask, way: str, what: str):
    ditail = {**BETA, "feature_weight": 0.9}
    count, request = SEVERAL[what]
    webui.post("/sdapi/v1/options", {"ditail_features_mb": 0})
    try:
        expected, alone = ask(ditail, **request)
        found, records = ask(ditail, way, **request)
    finally:
        webui.post("/sdapi/v1/options", {"ditail_features_mb": -1})
    assert found.status == 200, found.body
    assert found.pixels == expected.pixels
    assert passes(records) == passes(alone)
    assert len(records.samples) == count
    assert recorded(records) > 0
    assert recorded(records) % count == 0


def test_the_same_request_twice_is_the_same_picture(ask: Ask):
    first, _ = ask(BETA, "sample", "copies")
    second, records = ask(BETA, "sample", "copies", seed=8)
    assert recorded(records) == 0
    assert first.status == second.status == 200
