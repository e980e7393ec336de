"""Which source each row of a call belongs to, in the orders that hosts have."""

from __future__ import annotations

import itertools
from types import ModuleType, SimpleNamespace

import pytest
import torch

from ditail_ext.errors import InjectionError


@pytest.fixture
def rows(host: SimpleNamespace) -> ModuleType:
    """The module under test."""
    host.fake(sd_samplers={}, sd_samplers_common={})
    return host.load("target.source_rows")


TWO_AND_ONE = SimpleNamespace(batch=[["red", "blue"], ["red"]])
"""Conditions of two images, the first with an ``AND``."""


def test_the_webui_evaluates_each_image_s_conditions_and_then_the_images(rows: ModuleType):
    found = rows.ImageSources([7, 8]).of_conditions(TWO_AND_ONE)
    assert list(itertools.islice(found, 7)) == [7, 7, 8, 7, 8, 7, 8]


def test_reforge_evaluates_each_condition_with_all_images(rows: ModuleType):
    found = rows.ImageSources([7, 8]).of_conditions(TWO_AND_ONE, whole=True)
    assert list(itertools.islice(found, 6)) == [7, 8, 7, 8, 7, 8]


def test_a_sampler_that_works_in_several_sizes_is_refused(rows: ModuleType):
    rows.require_same_size(torch.empty(2, 4, 8, 16), (1, 4, 8, 16))
    with pytest.raises(InjectionError, match="choose a sampler that keeps the size"):
        rows.require_same_size(torch.empty(2, 4, 4, 8), (1, 4, 8, 16))
