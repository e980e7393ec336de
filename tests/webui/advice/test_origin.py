"""What a picture's own parameters say of the checkpoint that made it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def origin(host: SimpleNamespace):
    """With the host's reader in words: a picture is its text here, and the text its entries."""
    listed = host.modules.sd_models.checkpoints_list.values()
    for info in listed:
        info.model_name, info.name_for_extra = info.name.rsplit(".", 1)[0], info.name.rsplit(".", 1)[0]
    host.fake(
        images={"read_info_from_image": lambda picture: (picture.text, None)},
        infotext_utils={"parse_generation_parameters": lambda text, _skipped: text},
    )
    module = host.load("advice.origin")

    def origin(**entries: str) -> Any:
        said = {key.replace("_", " "): value for key, value in entries.items()}
        return module.origin_of(SimpleNamespace(text=said))

    origin.module = module
    return origin


def test_by_hash_before_by_name(origin):
    found = origin(Model="A", Model_hash="bbbb", Prompt="a cat", Negative_prompt="blurry")
    assert (found.checkpoint, found.prompt, found.negative_prompt) == ("b.safetensors", "a cat", "blurry")


def test_by_name_where_the_hash_is_unknown(origin):
    assert origin(Model="b", Model_hash="ffff").checkpoint == "b.safetensors"


@pytest.mark.parametrize("model", ["", "b.saf", "B", "c"])
def test_never_by_a_part_of_a_name(origin, model: str):
    found = origin(Model=model, Model_hash="ffff")
    assert found.checkpoint is None
    assert "not installed" in origin.module.in_words(found)


def test_a_picture_that_says_nothing(origin):
    assert origin() is None
    assert origin(Prompt="a cat") is None
    assert origin.module.origin_of(None) is None


def test_what_a_picture_says_is_text_and_not_markup(origin):
    assert "<script" not in origin.module.in_words(origin(Model="<script>"))
