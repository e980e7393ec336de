"""Which model knows a picture best, on models whose errors are known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ditail_ext.core import NoiseSchedule, Sureness, levels_of, noise_errors, noise_like, rank

SCHEDULE = NoiseSchedule.stable_diffusion()
COND = torch.zeros(1, 2, 3)


def knows(believed: Tensor, seen: list | None = None):
    """A model that believes every picture to be one: it takes for noise what is not that picture."""

    def predict_noise(latent, level, cond):
        if seen is not None:
            seen.append((latent.shape, [one.timestep for one in level], cond.shape))
        return torch.stack(
            [(row - one.signal * believed[0]) / one.noise for row, one in zip(latent, level, strict=True)]
        )

    return predict_noise


def test_a_model_that_knows_the_picture_errs_not_at_all():
    picture = torch.randn(1, 4, 8, 8)
    errors = noise_errors(knows(picture), picture, noise_like(picture), levels_of(SCHEDULE), COND)
    assert max(errors) < 1e-8


def test_the_error_is_that_of_the_picture_by_signal_over_noise():
    picture, other = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    levels = levels_of(SCHEDULE)
    errors = noise_errors(knows(other), picture, noise_like(picture), levels, COND)
    apart = float((picture - other).square().mean())
    assert errors == pytest.approx([apart * (level.signal / level.noise) ** 2 for level in levels], rel=1e-4)


def test_all_levels_in_one_call_with_a_condition_each():
    picture, seen = torch.randn(1, 4, 8, 6), []
    noise_errors(knows(picture, seen), picture, noise_like(picture), levels_of(SCHEDULE), COND)
    assert seen == [((4, 4, 8, 6), [200, 400, 600, 800], (4, 2, 3))]


def test_the_noise_is_the_same_for_everyone_and_of_unit_variance():
    latent = torch.zeros(1, 4, 64, 64)
    assert torch.equal(noise_like(latent), noise_like(torch.ones(1, 4, 64, 64)))
    assert float(noise_like(latent).std()) == pytest.approx(1.0, abs=0.02)


def test_the_order_and_by_how_much():
    ranking = rank({"far": [0.4, 0.04], "near": [0.1, 0.01], "between": [0.2, 0.02]})
    assert [model.name for model in ranking.models] == ["near", "between", "far"]
    assert [model.excess for model in ranking.models] == pytest.approx([0.0, 1.0, 3.0])
    assert [model.wins for model in ranking.models] == [2, 0, 0]
    assert (ranking.sureness, ranking.best) == (Sureness.SURE, ("near",))


@pytest.mark.parametrize(
    ("errors", "sureness", "best"),
    [
        ({"a": [1.0, 3.0], "b": [2.0, 2.0]}, Sureness.LIKELY, ("a",)),
        ({"a": [1.0, 1.0], "b": [1.05, 1.05], "c": [2.0, 2.0]}, Sureness.SHARED, ("a", "b")),
        ({"a": [1.0, 1.0], "b": [1.05, 1.05]}, Sureness.UNDECIDED, ("a", "b")),
        ({"a": [1.0, 1.0]}, Sureness.UNDECIDED, ("a",)),
    ],
)
def test_how_sure_it_is(errors, sureness, best):
    assert (rank(errors).sureness, rank(errors).best) == (sureness, best)


@given(st.permutations(range(5)), st.floats(0.01, 100))
def test_neither_order_nor_scale_matter(order, scale):
    """A level's errors may be a hundred times another's: what counts is by how much models differ there."""
    errors = {f"m{index}": [1.0 + index, 5.0 + index] for index in range(5)}
    shuffled = {f"m{index}": [errors[f"m{index}"][0] * scale, errors[f"m{index}"][1]] for index in order}
    here, there = rank(errors), rank(shuffled)
    assert [model.name for model in here.models] == [model.name for model in there.models]
    assert [model.excess for model in here.models] == pytest.approx([model.excess for model in there.models])


def test_nothing_to_rank():
    with pytest.raises(ValueError, match="no model"):
        rank({})
