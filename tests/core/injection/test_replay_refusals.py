"""Replay that does not fit is refused, never guessed."""

import pytest
import torch

from ditail_ext.core import FeatureBank, Injection, Window, expand_rows
from ditail_ext.errors import InjectionError

OPEN = Window(0, 3)


@pytest.fixture
def injection(scene):
    with Injection(scene.target, feature_window=OPEN, attention_window=OPEN) as injection:
        yield injection


def record(scene, injection, trajectory, step=0):
    level = scene.levels[step]
    empty = expand_rows(scene.prompts.empty, trajectory.batch_size)
    (bank,) = injection.record([step], lambda: scene.predict(trajectory.at(level), level, empty))
    return bank


def predict(scene, rows=1, size=(16, 16)):
    return scene.predict(torch.zeros(rows, 4, *size), scene.levels[0], expand_rows(scene.prompts.positive, rows))


def assert_refused(caught):
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_nothing_recorded(scene, injection):
    with pytest.raises(InjectionError, match="Step 0 was not recorded") as caught, injection.replay(0, None):
        predict(scene)
    assert_refused(caught)


def test_a_bank_that_lacks_a_site(scene, injection):
    with pytest.raises(InjectionError, match="Nothing was recorded for output_blocks") as caught:  # noqa: SIM117
        with injection.replay(0, FeatureBank()):
            predict(scene)
    assert_refused(caught)


@pytest.mark.parametrize("size", [(16, 24), (32, 32)])
def test_another_picture_size(scene, injection, size):
    bank = record(scene, injection, scene.one)
    with pytest.raises(InjectionError, match="number of tokens") as caught, injection.replay(0, bank):
        predict(scene, size=size)
    assert_refused(caught)


@pytest.mark.parametrize("sources", [None, [0], [0, 1, 2], [0, 3], [-1, 0]])
def test_sources_that_do_not_fit_the_rows(scene, injection, sources):
    bank = record(scene, injection, scene.three)
    with pytest.raises(InjectionError) as caught, injection.replay(0, bank, sources):
        predict(scene, rows=2)
    assert_refused(caught)


def test_a_unet_that_is_not_called(scene, injection):
    bank = record(scene, injection, scene.one)
    with pytest.raises(InjectionError, match="17 of 17 layers were not called") as caught, injection.replay(0, bank):
        pass
    assert_refused(caught)


def test_a_layer_that_is_gone_around(scene, injection):
    bank = record(scene, injection, scene.one)
    attention = scene.target.get_submodule("output_blocks.6.1.transformer_blocks.0.attn1")
    attention.forward = lambda x, context=None, mask=None: x
    try:
        with pytest.raises(InjectionError, match=r"2 of 17 layers .*output_blocks\.6\."), injection.replay(0, bank):
            predict(scene)
    finally:
        del attention.forward


def test_the_body_s_own_failure_is_not_replaced(scene, injection):
    bank = record(scene, injection, scene.one)
    with pytest.raises(ZeroDivisionError), injection.replay(0, bank):
        raise ZeroDivisionError
