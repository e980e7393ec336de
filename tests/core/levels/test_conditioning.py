import pytest
import torch

from ditail_ext.core import equal_lengths, expand_rows, join_rows, mix
from ditail_ext.errors import ConditioningError


def embedding(rows=1, tokens=77, width=8, seed=0):
    return torch.randn(rows, tokens, width, generator=torch.Generator().manual_seed(seed))


POSITIVE, NEGATIVE, EMPTY = embedding(seed=1), embedding(seed=2), embedding(seed=3)


def test_mix_is_the_paper_s_formula():
    assert torch.equal(mix(POSITIVE, NEGATIVE, 3.0, 0.5), 3.0 * POSITIVE - 0.5 * NEGATIVE)
    assert torch.equal(mix(POSITIVE, NEGATIVE, 1.0, 0.0), POSITIVE)
    assert torch.equal(mix(POSITIVE, NEGATIVE, 0.0, 1.0), -NEGATIVE)


def test_mix_of_dicts_leaves_the_positive_vector_unscaled():
    positive = {"crossattn": POSITIVE, "vector": torch.full((1, 5), 2.0)}
    negative = {"crossattn": NEGATIVE, "vector": torch.full((1, 5), 7.0)}
    mixed = mix(positive, negative, 3.0, 0.5)
    assert set(mixed) == {"crossattn", "vector"}
    assert torch.equal(mixed["crossattn"], 3.0 * POSITIVE - 0.5 * NEGATIVE)
    assert torch.equal(mixed["vector"], positive["vector"])
    assert torch.equal(positive["crossattn"], POSITIVE), "the caller's embeddings were changed"


@pytest.mark.parametrize("longer_is_negative", [False, True])
def test_mix_fills_the_shorter_up_with_empty_chunks(longer_is_negative):
    long = embedding(tokens=231, seed=4)
    filled = torch.cat([POSITIVE, EMPTY, EMPTY], dim=1)
    if longer_is_negative:
        assert torch.equal(mix(POSITIVE, long, 3.0, 0.5, empty=EMPTY), 3.0 * filled - 0.5 * long)
    else:
        assert torch.equal(mix(long, POSITIVE, 3.0, 0.5, empty=EMPTY), 3.0 * long - 0.5 * filled)


def test_mix_of_dicts_of_unequal_length():
    long = {"crossattn": embedding(tokens=154, seed=4), "vector": torch.ones(1, 5)}
    short = {"crossattn": NEGATIVE, "vector": torch.zeros(1, 5)}
    mixed = mix(long, short, 1.0, 1.0, empty={"crossattn": EMPTY, "vector": torch.zeros(1, 5)})
    assert torch.equal(mixed["crossattn"], long["crossattn"] - torch.cat([NEGATIVE, EMPTY], dim=1))


def test_equal_lengths_fills_every_row():
    first, second = equal_lengths(embedding(rows=3), embedding(rows=3, tokens=154), EMPTY)
    assert first.shape == second.shape == (3, 154, 8)
    assert torch.equal(first[:, 77:], EMPTY.expand(3, -1, -1))


def test_expand_rows():
    assert expand_rows(POSITIVE, 3).shape == (3, 77, 8)
    several = embedding(rows=3)
    assert torch.equal(expand_rows(several, 3), several)
    rows = expand_rows({"crossattn": POSITIVE, "vector": torch.ones(1, 5)}, 2)
    assert rows["crossattn"].shape == (2, 77, 8)
    assert rows["vector"].shape == (2, 5)


def test_join_rows():
    assert torch.equal(join_rows([POSITIVE, NEGATIVE]), torch.cat([POSITIVE, NEGATIVE]))
    long = embedding(tokens=154, seed=4)
    joined = join_rows([POSITIVE, long], EMPTY)
    assert torch.equal(joined, torch.cat([torch.cat([POSITIVE, EMPTY], dim=1), long]))
    first = {"crossattn": POSITIVE, "vector": torch.ones(1, 5)}
    second = {"crossattn": long, "vector": torch.zeros(1, 5)}
    both = join_rows([first, second], EMPTY)
    assert torch.equal(both["crossattn"], joined)
    assert torch.equal(both["vector"], torch.cat([torch.ones(1, 5), torch.zeros(1, 5)]))


def test_refusals():
    as_dict = {"crossattn": POSITIVE, "vector": torch.ones(1, 5)}
    refused = {
        "another kind": lambda: mix(POSITIVE, as_dict, 3.0, 0.5),
        "another width": lambda: mix(POSITIVE, embedding(width=16), 3.0, 0.5),
        "longer, and nothing to fill with": lambda: mix(POSITIVE, embedding(tokens=154), 3.0, 0.5),
        "not whole chunks": lambda: mix(POSITIVE, embedding(tokens=100), 3.0, 0.5, empty=EMPTY),
        "no crossattn": lambda: mix({"vector": POSITIVE}, {"vector": POSITIVE}, 3.0, 0.5),
        "two prompts for three pictures": lambda: expand_rows(embedding(rows=2), 3),
        "two vectors for three pictures": lambda: expand_rows({**as_dict, "vector": torch.ones(2, 5)}, 3),
        "kinds joined": lambda: join_rows([POSITIVE, as_dict]),
        "unequal joined": lambda: join_rows([POSITIVE, embedding(tokens=154)]),
    }
    for name, make in refused.items():
        with pytest.raises(ConditioningError, match=r"\.$"):
            pytest.fail(f"accepted: {name}, {make()}")
