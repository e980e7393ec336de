"""The base's bottom: a silenced UNet's short cut is the UNet, and all from below goes through the feature."""

import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("transformers")

from demo import nets
from demo.train import bottom
from ditail_ext.core import Injection, Window


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    made = nets.make_unet().eval().requires_grad_(False)
    for parameter in made.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)  # branches that ldm starts silent
    bottom.silence(made)
    return made


def inputs(seed, rows=2):
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(rows, 77, nets.UNET_CONFIG["context_dim"], generator=generator)
    return torch.randn(rows, 4, 16, 16, generator=generator), torch.tensor([300, 800][:rows]), context


def test_bottom_and_top_are_the_whole_unet(unet):
    noisy, timestep, context = inputs(1)
    with torch.no_grad():
        whole = unet(noisy, timestep, context=context)
        below = bottom.bottom(unet, noisy, timestep, context)
        assert below.shape == (2, 128, 4, 4)
        assert torch.allclose(bottom.top(unet, below, noisy, timestep, context), whole, atol=1e-5)
    assert whole.std() > 0.01


def test_the_injected_feature_is_all_that_comes_from_below(unet):
    """Replaced by another latent's it gives what the other's bottom gives: own skips, and own transformer's text."""
    (noisy, timestep, context), (other, _, _) = inputs(1), inputs(2)
    always = Window.from_ratio(1.0, 1)
    with Injection(unet, feature_window=always, attention_window=always, attention_weight=0.0) as injection:
        (bank,) = injection.record([0], lambda: unet(other, timestep, context=context))
        with injection.replay(0, bank, [0, 1]), torch.no_grad():
            injected = unet(noisy, timestep, context=context)
    with torch.no_grad():
        below = bottom.bottom(unet, other, timestep, context)
        wanted = bottom.top(unet, below, noisy, timestep, context)
        own = unet(noisy, timestep, context=context)
    assert torch.allclose(injected, wanted, atol=1e-5)
    assert (injected - own).abs().max() > 1e-3


def test_the_bottom_learns_what_is_drawn_and_not_how(unet):
    """The error of the noise leaves no gradient below the feature; the head's, from the plain latents, does."""
    bottom_of_it = unet.middle_block[1].proj_in.weight.requires_grad_(True)
    above_it = unet.output_blocks[6][0].in_layers[2].weight.requires_grad_(True)
    noisy, timestep, context = inputs(1)
    below = bottom.bottom(unet, noisy, timestep, context)
    bottom.top(unet, below.detach(), noisy, timestep, context).square().mean().backward()
    assert bottom_of_it.grad is None
    assert above_it.grad is not None
    torch.nn.functional.mse_loss(bottom.make_head(128)(below), noisy).backward()
    assert bottom_of_it.grad is not None
    for weight in (bottom_of_it, above_it):
        weight.grad = None
        weight.requires_grad_(False)


def test_a_scene_is_drawn_in_its_style_and_in_the_plain_one():
    assert bottom.seen_as("ink") == ("ink", bottom.PLAIN)
    assert bottom.seen_as(bottom.PLAIN) == (bottom.PLAIN,)
