"""The released rule's numbers are the released code's, two and three UNets side by side."""

import copy
import json

import pytest
import torch
from safetensors import safe_open

from ditail_ext.core import (
    Aggregation,
    Companion,
    Companions,
    Merger,
    NoiseSchedule,
    Prompts,
    Pull,
    ReleasedMix,
    Window,
    guided_noise,
    ldm_noise_predictor,
    sample,
)

SCHEDULE = NoiseSchedule.stable_diffusion()


@pytest.fixture(scope="module")
def released(golden_folder):
    """``starts`` (3, 4, 16, 16), `two` (kept, 2, ...), `three` (kept, 3, ...) and the case's numbers."""
    with safe_open(golden_folder / "aggregation_5_of_20_steps.safetensors", framework="pt") as file:
        case = json.loads(file.metadata()["case"])
        return {name: file.get_tensor(name) for name in file.keys()} | {"case": case}  # noqa: SIM118


@pytest.fixture(scope="module")
def estimates(golden_folder, unets, released):
    """Each model's estimate, with conditions of its own; the third UNet's weights lie between the others'."""
    third = copy.deepcopy(unets.source)
    with torch.no_grad():
        for own, other in zip(third.parameters(), unets.target.parameters(), strict=True):
            own.copy_((own + other) / 2)
    with safe_open(golden_folder / "full_mask_10_steps.safetensors", framework="pt") as file:
        positive, negative, empty = (file.get_tensor(f"emb_{name}") for name in ("pos", "neg", "empty"))
    prompts = [Prompts(*pair, empty) for pair in ((positive, negative), (empty, negative), (negative, empty))]
    scale = released["case"]["cfg_scale"]
    models = [ldm_noise_predictor(unet) for unet in (unets.target, unets.source, third)]
    return [
        (model, own, guided_noise(model, own, cfg_scale=scale)) for model, own in zip(models, prompts, strict=True)
    ]


class Noting(Merger):
    """A merger that remembers what it returned."""

    def __init__(self, *given):
        super().__init__(*given)
        self.seen = []

    def after_step(self, *given):
        self.seen.append(torch.cat(super().after_step(*given)))
        return list(self.seen[-1].split(1))


@pytest.mark.parametrize("number", ["two", "three"])
def test_latents_after_each_aggregated_step(number, released, estimates, monkeypatch):
    case, expected = released["case"], released[number]
    models = expected.shape[1]
    rule = ReleasedMix(tuple(case[number]["weights"]))
    aggregation = Aggregation(rule, Window(case["start"], case["end"] + 1), Pull(tuple(case[number]["pulls"])))
    starts = released["starts"].split(1)
    others = [Companion(estimates[at][2], starts[at]) for at in range(1, models)]
    companions = Companions(aggregation, others, SCHEDULE)
    companions._merger = noted = Noting(aggregation, SCHEDULE)
    target = []
    levels = SCHEDULE.ddim_levels(case["steps"])
    predict, prompts, _ = estimates[0]
    sample(
        predict,
        starts[0],
        levels[: case["kept"]],
        prompts,
        cfg_scale=case["cfg_scale"],
        clean=levels[case["kept"]],
        companions=companions,
        on_step=lambda step, steps, level, latent: target.append(latent),
    )
    assert len(noted.seen) == case["end"] + 1, "the companions are dropped behind the window"
    for step, latents in enumerate(noted.seen):
        assert (latents - expected[step]).abs().max() <= 1e-5, step
    for step, latent in enumerate(target):  # behind the window the released models do not touch each other, either
        assert (latent - expected[step, :1]).abs().max() <= 1e-5, step


def test_the_case_would_notice(released, estimates):
    """Models that go their own ways end elsewhere."""
    case = released["case"]
    levels = SCHEDULE.ddim_levels(case["steps"])
    predict, prompts, _ = estimates[0]
    alone = sample(
        predict,
        released["starts"][:1],
        levels[: case["kept"]],
        prompts,
        cfg_scale=case["cfg_scale"],
        clean=levels[case["kept"]],
    )
    for number in ("two", "three"):
        assert (alone - released[number][-1, :1]).abs().max() > 0.1


def test_the_length_grows_with_the_latent(released):
    """Twice the side: the same length on each quarter as the quarter alone would be pulled."""
    pull = Pull((50.0, 40.0))
    small, mean = released["starts"][:1], released["starts"][1:2]
    tiled = pull.toward(0, small.repeat(1, 1, 2, 2), mean.repeat(1, 1, 2, 2))
    assert torch.allclose(tiled[..., :16, :16], pull.toward(0, small, mean), atol=1e-5)
    assert (small - pull.toward(0, small, mean)).norm() == pytest.approx(
        50.0 * (small.numel() / 16384) ** 0.5, rel=1e-4
    )
