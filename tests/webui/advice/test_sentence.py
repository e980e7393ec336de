"""A situation in words; what matters is said, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ditail_ext.settings import AGGREGATE, Settings

USUAL: dict[str, Any] = {
    "img2img": True,
    "target": "water.safetensors",
    "source": "real.ckpt",
    "same": False,
    "picture": True,
    "steps": 20,
    "sampler": "DDIM",
    "adds_noise": False,
    "images": 1,
    "prompt": True,
}


@pytest.fixture
def words(host: SimpleNamespace):
    module = host.load("advice.sentence")

    def words(_settings: dict[str, Any] | None = None, **more: Any) -> Any:
        return module.say(module.Situation(settings=Settings(**(_settings or {})), **{**USUAL, **more}))

    return words


def plain(html: str) -> str:
    return html.replace('<b title="real.ckpt">', "").replace('<b title="water.safetensors">', "").replace("</b>", "")


def test_a_good_situation_has_one_sentence(words):
    said = words()
    assert plain(said.doing) == "This picture → inverted by real (20 steps) → redrawn by water"
    assert (said.warnings, said.notes, said.refused) == ((), (), False)
    assert plain(said.badge) == "real → water"


@pytest.mark.parametrize(
    ("more", "doing"),
    [
        ({"steps": 1}, "This picture → inverted by real (1 step) → redrawn by water"),
        ({"steps": None}, "This picture → inverted by real → redrawn by water"),
        ({"kept": True}, "This picture → inverted by real (20 steps, kept from before) → redrawn by water"),
        ({"kept": True, "steps": None}, "This picture → inverted by real (kept from before) → redrawn by water"),
        ({"picture": None}, "The picture → inverted by real (20 steps) → redrawn by water"),
        ({"picture": False}, "No picture yet: give one. It will be inverted by real → redrawn by water"),
        ({"img2img": False, "picture": False}, "real generates the content (20 steps) → redrawn by water"),
    ],
)
def test_what_will_happen(words, more: dict[str, Any], doing: str):
    assert plain(words(**more).doing) == doing


@pytest.mark.parametrize(
    ("settings", "doing", "badge"),
    [
        (
            {"aggregate_1": "real.ckpt"},
            "This picture → inverted by real (20 steps) → redrawn by water, merged with real in the first 20% of the "
            "steps",
            "real → water",
        ),
        (
            {"aggregation": "alone", "aggregate_2": "real.ckpt", "aggregation_ratio": 0.5},
            "Drawn by water, without a source, merged with real in the first 50% of the steps",
            "water + real",
        ),
        ({"aggregation": "alone"}, "Drawn by water, without a source", "water"),
    ],
)
def test_further_checkpoints(words, settings: dict[str, Any], doing: str, badge: str):
    said = words(settings, prompt=False)
    assert (plain(said.doing), plain(said.badge)) == (doing, badge)
    named = [name for name in AGGREGATE if settings.get(name)]
    assert ("positive_scale" in said.inert) == ("aggregation" in settings)
    assert [name for name in AGGREGATE if f"{name}_weight" not in said.inert] == named
    assert ("aggregation_ratio" in said.inert) == (not named)
    if "aggregation" in settings:
        assert said.warnings == (() if named else ("Nothing is aggregated: name a further checkpoint.",))


@pytest.mark.parametrize(
    ("more", "starts"),
    [
        ({"same": True}, "Source and target are the same checkpoint"),
        ({"prompt": False}, "The prompt is empty"),
        ({"adds_noise": True, "sampler": "Euler a"}, "Euler a adds noise on the way"),
        ({"images": 4}, "All 4 pictures will be the same: DDIM"),
        ({"refusals": ["Token merging <b>"]}, "Token merging &lt;b&gt;"),
        ({"steps": 1}, "Nothing will be injected"),
    ],
)
def test_a_warning_for_each_thing_that_matters(words, more: dict[str, Any], starts: str):
    (warning,) = words(**more).warnings
    assert warning.startswith(starts)
    assert words(**more).refused == ("refusals" in more)


def test_edits_by_prompt_are_no_mistake(words):
    assert words({"inversion_prompt": "a cat"}, same=True).warnings == ()


@pytest.mark.parametrize("unknown", ["picture", "steps", "adds_noise", "images", "prompt", "sampler"])
def test_nothing_is_said_about_what_is_not_known(words, unknown: str):
    assert words(**{unknown: None}).warnings == ()


@pytest.mark.parametrize("layers", ["default", "strong", "full"])
def test_a_generated_content_has_neither_noise_nor_seed_nor_layers_to_warn_of(words, layers: str):
    """The paper's layers carry it over where they carry a layout at all (docs/quality.md, *Generated sources*)."""
    settings = {"layer_profile": layers}
    assert words(settings, img2img=False, picture=False, adds_noise=True, images=4).warnings == ()


def test_loads_that_are_due(words):
    assert plain(words(loads=["real.ckpt"]).notes[0]) == "To be loaded first: real."


def test_long_names_are_shortened_and_whole_in_the_tooltip(words):
    long = "sub/" + "very-long-name-" * 8 + ".safetensors"
    said = words(source=long)
    assert f'title="{long}"' in said.badge
    assert max(len(part) for part in plain(said.badge.split(">", 1)[1]).split()) < 40
    assert "…" in said.badge


def test_names_are_text_and_not_markup(words):
    said = words(source='"><script>.ckpt')
    assert "<script" not in said.badge + said.doing


@pytest.mark.parametrize(
    ("settings", "more", "inert"),
    [
        ({}, {}, {"region_blur", "mix_weight", "show_content"}),
        ({"region": "inpaint mask", "mix_checkpoint": "x"}, {}, {"show_content"}),
        (
            {"layer_profile": "full"},
            {"img2img": False, "picture": False},
            {
                *("region_blur", "mix_weight", "positive_scale", "negative_scale", "inversion_rule", "refinements"),
                "source_vae",
            },
        ),
        ({"feature_ratio": 0.0}, {}, {"region_blur", "mix_weight", "show_content", "feature_start", "feature_weight"}),
        (
            {"attention_weight": 0.0},
            {},
            {"region_blur", "mix_weight", "show_content", "attention_start", "attention_ratio"},
        ),
    ],
)
def test_controls_without_effect(words, settings: dict[str, Any], more: dict[str, Any], inert: set[str]):
    inert_now = {name for name in words(settings, **more).inert if not name.startswith("aggregat")}
    assert inert_now == inert
