"""The region of a picture that inpainting keeps, while timestep samplers run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modules import scripts
from torch import Tensor


@contextmanager
def at_the_source_s_level(denoiser: Any, x: Tensor, latents: Tensor, *, in_timesteps: bool) -> Iterator[Tensor]:
    """A context in which a denoiser holds the kept region at the source's latents; yields what to evaluate.

    The WebUI's timestep samplers put the clean latent there before every evaluation, which would undo the inversion;
    what the kept region ends as is decided by the host after sampling. A host whose samplers put it into the estimate
    instead (reForge's) is left without a mask meanwhile. Samplers that work with sigmas keep their own way.

    Args:
        denoiser: the host's.
        x: what its sampler gives it, one row an image.
        latents: the source's of this level, one row an image.
        in_timesteps: whether the sampler calls it with timesteps.
    """
    if denoiser.mask is None or not (denoiser.mask_before_denoising or in_timesteps):
        yield x
        return
    clean, mask = denoiser.init_latent, denoiser.mask
    denoiser.init_latent = latents.to(clean)
    try:
        if denoiser.mask_before_denoising:
            yield x
        else:
            held = _blended(denoiser, x)
            denoiser.mask = None
            yield held
    finally:
        denoiser.init_latent, denoiser.mask = clean, mask


def _blended(denoiser: Any, x: Tensor) -> Tensor:
    """A latent with the denoiser's ``init_latent`` where the mask keeps it, as scripts want it (soft inpainting)."""
    blended = x * denoiser.nmask + denoiser.init_latent * denoiser.mask
    if denoiser.p.scripts is None:
        return blended
    said = scripts.MaskBlendArgs(x, denoiser.nmask, denoiser.init_latent, denoiser.mask, blended, denoiser=denoiser)
    denoiser.p.scripts.on_mask_blend(denoiser.p, said)
    result: Tensor = said.blended_latent
    return result
