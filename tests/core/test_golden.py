"""The core's numbers are the authors' numbers, however the UNet calls are laid out."""

import pytest
import torch

from ditail_ext.core import Injection, NoiseSchedule, ldm_noise_predictor, sample


def run(golden, unets, trajectory, start=None, injected=True, around=lambda predict: predict, **options):
    predict = around(ldm_noise_predictor(unets.target))
    common = {"cfg_scale": golden.case["omega"], "clean": golden.clean, **options}
    start = trajectory.start if start is None else start
    if not injected:
        return sample(predict, start, golden.levels, golden.prompts, **common)
    with Injection(unets.target, region=golden.region, **golden.windows) as injection:
        return sample(
            predict, start, golden.levels, golden.prompts, trajectory=trajectory, injection=injection, **common
        )


def assert_output(golden, output, name="output"):
    expected = golden[name]
    assert (output - expected).abs().max() <= 1e-4 * expected.abs().max()


def assert_trajectory(golden, latents):
    expected = golden["trajectory"].flip(0)
    assert latents.shape == expected.shape
    assert (latents - expected).abs().max() <= 1e-5


def three_pictures(golden):
    """The golden picture between two others."""
    others = torch.randn(2, *golden["z0"].shape[1:], generator=torch.Generator().manual_seed(11))
    return torch.cat([others[:1], golden["z0"], others[1:]])


@pytest.fixture(scope="module")
def three_trajectories(golden, unets):
    return golden.trajectory(unets.source, three_pictures(golden))


def test_trajectory_is_the_authors(golden, golden_trajectory):
    assert torch.equal(golden_trajectory.clean, golden["z0"])
    assert_trajectory(golden, golden_trajectory.latents[1:, 0])


def test_golden_levels_are_the_core_s_own_levels(golden):
    own = NoiseSchedule.stable_diffusion().ddim_levels(golden.case["steps"])
    assert [level.timestep for level in own] == golden["timesteps"].tolist()
    assert [level.alpha_bar for level in own] == pytest.approx([level.alpha_bar for level in golden.levels], rel=1e-5)


@pytest.mark.parametrize("apart", [False, True], ids=["one call", "two calls"])
def test_output_is_the_authors(golden, golden_trajectory, unets, in_two_calls, apart):
    around = (lambda predict: in_two_calls(predict, 1)) if apart else (lambda predict: predict)
    assert_output(golden, run(golden, unets, golden_trajectory, around=around))


def test_output_without_injection_is_the_authors(golden, golden_trajectory, unets):
    output = run(golden, unets, golden_trajectory, injected=False)
    assert_output(golden, output, "output_without_injection")
    injected = golden["output"]
    assert (output - injected).abs().max() > 1e-2 * injected.abs().max(), "the case would not notice injection"


def test_trajectory_in_a_batch_of_three(golden, three_trajectories):
    assert_trajectory(golden, three_trajectories.latents[1:, 1])


def test_output_in_a_batch_of_three_sources(golden, three_trajectories, unets):
    output = run(golden, unets, three_trajectories)
    assert_output(golden, output[1:2])
    assert not torch.allclose(output[:1], golden["output"], atol=1e-2)


def test_output_with_one_source_for_three_pictures_and_prompts_apart(
    golden, golden_trajectory, three_trajectories, unets, in_two_calls
):
    start = torch.cat([three_trajectories.start[:1], golden_trajectory.start, three_trajectories.start[2:]])
    output = run(golden, unets, golden_trajectory, start=start, around=lambda predict: in_two_calls(predict, 3))
    assert_output(golden, output[1:2])
