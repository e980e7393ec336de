"""The region of a picture that inpainting keeps, while a sampler runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modules import scripts
from torch import Tensor


@dataclass(frozen=True)
class KeptRegion:
    """How a denoiser's kept region is held, in the WebUI's way whatever the host's is.

    Timestep samplers evaluate the source's latents there: the WebUI's put the clean latent there before every
    evaluation, which would undo the inversion. Samplers that work with sigmas put the clean latent into the estimate.
    What the kept region ends as is decided by the host after sampling.

    Attributes:
        denoiser: the host's.
        in_timesteps: whether the sampler calls it with timesteps.
        with_noise: whether the host puts the clean latent with fresh noise there before every evaluation (Forge).
    """

    denoiser: Any
    in_timesteps: bool
    with_noise: bool

    def evaluated(self, evaluate: Callable[[Tensor], Any], x: Tensor, latents: Tensor, sigma: Tensor) -> Any:
        """What a denoiser estimates.

        Args:
            evaluate: the host's.
            x: what its sampler gives it, one row an image.
            latents: the source's of this level, one row an image, in the sampler's scaling.
            sigma: what the sampler calls it with.
        """
        denoiser = self.denoiser
        before = denoiser.mask_before_denoising
        if denoiser.mask is None or not (before or self.in_timesteps or self.with_noise):
            return evaluate(x)
        clean, mask = denoiser.init_latent, denoiser.mask
        try:
            if before:
                denoiser.init_latent = latents.to(clean)
                return evaluate(x)
            denoiser.mask = None
            if self.in_timesteps:
                return evaluate(self._blended(x, latents.to(clean), mask, sigma))
            return self._blended(evaluate(x), clean, mask, sigma)
        finally:
            denoiser.init_latent, denoiser.mask = clean, mask

    def _blended(self, x: Tensor, kept: Tensor, mask: Tensor, sigma: Tensor) -> Tensor:
        """A latent with another where the mask keeps it, as scripts want it (soft inpainting)."""
        denoiser = self.denoiser
        blended = x * denoiser.nmask + kept * mask
        if denoiser.p.scripts is None:
            return blended
        said = scripts.MaskBlendArgs(x, denoiser.nmask, kept, mask, blended, denoiser=denoiser, sigma=sigma)
        denoiser.p.scripts.on_mask_blend(denoiser.p, said)
        result: Tensor = said.blended_latent
        return result
