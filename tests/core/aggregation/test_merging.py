"""What merging makes of norms and angles, and which weights are refused."""

import itertools
import math

import pytest
import torch

from ditail_ext.core import Aggregation, Pull, ReleasedMix, Slerp, Window
from ditail_ext.errors import AggregationError


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def at_angle(degrees, norm=1.0):
    """A latent of 16x16, and another of `norm` times its norm at an angle to it."""
    first, other = normal(2, 1, 4, 16, 16).unbind()
    other -= (other * first).sum() / first.norm() ** 2 * first
    other *= first.norm() / other.norm()
    angle = math.radians(degrees)
    return first, norm * (math.cos(angle) * first + math.sin(angle) * other)


def angle(a, b):
    a, b = a / a.norm(), b / b.norm()
    return math.degrees(float(2 * torch.atan2((a - b).norm(), (a + b).norm())))


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 5.0, 60.0, 90.0, 150.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_slerp_goes_its_share_of_the_angle_and_keeps_the_norm(degrees, weight):
    first, second = at_angle(degrees)
    merged = Slerp((1 - weight, weight))([first, second])
    assert merged.norm() == pytest.approx(float(first.norm()), rel=1e-5)
    assert angle(first, merged) == pytest.approx(weight * degrees, abs=2e-3)
    assert angle(merged, second) == pytest.approx((1 - weight) * degrees, abs=2e-3)


def test_slerp_s_norm_lies_between_the_norms():
    first, second = at_angle(60, norm=2.0)
    merged = Slerp((0.75, 0.25))([first, second])
    assert merged.norm() == pytest.approx(float(0.75 * first.norm() + 0.25 * second.norm()), rel=1e-5)


@pytest.mark.parametrize("weights", [(0.5, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4), (0.0, 0.5, 0.5), (1.0, 0.0, 0.0)])
def test_the_spherical_mean_of_more_keeps_the_norm_and_knows_no_order(weights):
    latents = list(normal(len(weights), 2, 4, 16, 16).unbind())
    latents[1] = 0.8 * latents[0] + 0.6 * latents[1]
    merged = Slerp(weights)(latents)
    norms = torch.stack([latent.flatten(1).norm(dim=1) for latent in latents])
    assert torch.allclose(merged.flatten(1).norm(dim=1), torch.tensor(weights) @ norms, rtol=1e-5)
    for order in itertools.islice(itertools.permutations(range(len(weights))), 1, 4):
        shuffled = Slerp(tuple(weights[at] for at in order))([latents[at] for at in order])
        assert torch.allclose(shuffled, merged, atol=1e-4)


def test_three_of_which_one_weighs_nothing_are_two():
    first, second = at_angle(80)
    third = normal(1, 4, 16, 16, seed=5)
    two = Slerp((0.3, 0.7))([first, second])
    assert torch.allclose(Slerp((0.3, 0.7, 0.0))([first, second, third]), two, atol=1e-5)


def test_the_spherical_mean_balances_the_angles():
    """Buss and Fillmore's condition: the weighted great circles to all latents sum to nothing."""
    weights, latents = (0.2, 0.5, 0.3), normal(3, 1, 4, 16, 16).unbind()
    mean = Slerp(weights)(latents).flatten()
    mean = mean / mean.norm()
    total = torch.zeros_like(mean)
    for weight, latent in zip(weights, latents, strict=True):
        unit = latent.flatten() / latent.norm()
        sideways = unit - (unit @ mean) * mean
        total += weight * math.radians(angle(unit, mean)) * sideways / sideways.norm()
    assert total.norm() < 1e-5


def test_each_image_of_a_batch_is_merged_as_alone():
    first, second = normal(2, 3, 4, 16, 16).unbind()
    second[1] = first[1]
    for rule in (Slerp((0.6, 0.4)), ReleasedMix((0.5,))):
        together = rule([first, second])
        for at in range(3):
            assert torch.allclose(together[at : at + 1], rule([first[at : at + 1], second[at : at + 1]]), atol=1e-6)


def test_half_precision_is_merged_in_single():
    first, second = normal(2, 1, 4, 16, 16).half().unbind()
    assert Slerp((0.5, 0.5))([first, second]).dtype == torch.float32


def test_released_factors():
    assert ReleasedMix((0.5,)).factors == pytest.approx((0.5, 0.75**0.5))
    factors = ReleasedMix((0.47, 0.5)).factors
    rest = (1 - 0.47**2) ** 0.5
    assert factors == pytest.approx((0.235, 0.5 * rest, 0.75**0.5 * rest))
    assert sum(factor**2 for factor in factors) == pytest.approx(1 - 0.47**2 * 0.75)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Slerp((0.5, 0.6)),
            "The weights of all models must sum to 1, not 1.1; give the target what the others",
        ),
        (lambda: Slerp((1.0,)), "One model alone has nothing to be merged with; name another checkpoint."),
        (lambda: Slerp((1.5, -0.5)), "A checkpoint's weight must be from 0 to 1, not 1.5."),
        (lambda: Slerp((float("nan"), 0.5)), "A checkpoint's weight must be from 0 to 1, not nan."),
        (lambda: Slerp.beside_target([0.7, 0.7]), "The weights of the further checkpoints sum to 1.4; keep their sum"),
        (lambda: ReleasedMix((0.1, 0.2, 0.3)), "The released rule merges two models by one weight or three by two"),
        (lambda: ReleasedMix((2.0,)), "A checkpoint's weight must be from 0 to 1, not 2.0."),
        (lambda: Pull((-1.0, 1.0)), "A pull's length must be a number of at least 0, not -1.0."),
        (lambda: Aggregation(Slerp((0.5, 0.5)), Window(3, 3)), "The aggregation's window, from step 3 to 3, is empty"),
        (
            lambda: Aggregation(Slerp((0.5, 0.5)), Window(0, 2), Pull((1.0,))),
            "There are pulls of 1 models and weights",
        ),
        (lambda: Slerp((0.5, 0.5))([torch.zeros(1, 4, 8, 8)]), "There are weights of 2 models for the latents of 1"),
        (
            lambda: Slerp((0.5, 0.5))([torch.zeros(1, 4, 8, 8), torch.zeros(1, 16, 8, 8)]),
            "Latents of 1x4x8x8 and 1x16x8x8 cannot be merged; use checkpoints of one family",
        ),
    ],
)
def test_what_means_nothing_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(AggregationError) as refusal:
        make()
    assert str(refusal.value).startswith(sentence)
    assert str(refusal.value).endswith(".")


def test_the_target_has_what_the_others_leave():
    assert Slerp.beside_target([0.3]).weights == (0.7, 0.3)
    assert Slerp.beside_target([0.6, 0.4]).weights == (0.0, 0.6, 0.4)
