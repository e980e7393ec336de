"""The demonstration's own sampler: with and without fresh noise on the way."""

import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("transformers")

from demo import nets
from demo.sample import denoise


class Knows(torch.nn.Module):
    """Predicts the noise beside these latents."""

    def __init__(self, clean):
        super().__init__()
        self.clean = clean

    def forward(self, noisy, timestep, context):
        alpha_bar = nets.alphas_cumprod()[timestep].view(-1, 1, 1, 1)
        clean = self.clean.repeat(len(noisy) // len(self.clean), 1, 1, 1)
        return (noisy - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt()


@pytest.mark.parametrize("fresh", [False, True])
def test_whoever_knows_the_picture_draws_it(fresh):
    """With and without fresh noise; with, the noise on the way is another."""
    clean, noisy = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    draws = [torch.Generator().manual_seed(k) for k in range(2)] if fresh else ()
    found = denoise(Knows(clean), noisy, torch.zeros(4, 77, 64), range(901, 0, -100), 4.0, draws)
    left = (1 - nets.alphas_cumprod()[0]).sqrt()
    assert (found - nets.alphas_cumprod()[0].sqrt() * clean).abs().max() < 6 * left


def test_fresh_noise_keeps_the_noise_of_its_size():
    """Before the last step what is beside the picture is as large as the schedule says, and no longer the first."""
    clean = torch.zeros(1, 4, 64, 64)
    noisy = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    seen = []

    class Watching(Knows):
        def forward(self, noisy, timestep, context):
            seen.append((int(timestep[0]), noisy[:1].clone()))
            return super().forward(noisy, timestep, context)

    start = noisy * (1 - nets.alphas_cumprod()[800]).sqrt()
    for fresh in ((), [torch.Generator().manual_seed(2)]):
        seen.clear()
        denoise(Watching(clean), start, torch.zeros(2, 77, 64), (800, 600, 400, 200), 1.0, fresh)
        last = seen[-1][1]
        assert float(last.std()) == pytest.approx(float((1 - nets.alphas_cumprod()[200]).sqrt()), rel=0.03)
        same = float(torch.corrcoef(torch.stack([last.flatten(), start.flatten()]))[0, 1])
        assert same > 0.99 if not fresh else same < 0.5
