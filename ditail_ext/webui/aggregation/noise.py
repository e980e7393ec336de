"""The noise that a sampler adds on its way, the same for every model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from ..target.batch import replace


@contextmanager
def spread_noise(
    sampler: Any, rows: Tensor, arguments: dict[str, Any], spread: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """A context in which the noise for the target's rows serves every model's.

    The host gives its samplers noise for the request's images, whatever shape they ask for (its stand-in for
    ``torch.randn_like`` asks the request's generator), and a Brownian motion of its own to those that want one.

    Args:
        sampler: about to run.
        rows: the target's, (B, C, H, W).
        arguments: of the sampler's function; changed in place.
        spread: repeats the target's rows for each model.
    """
    with ExitStack() as undo:
        generator = sampler.p.rng
        draw = generator.next
        replace(undo, generator, "next", lambda: spread(draw()))
        if "noise_sampler" in arguments:
            moved = arguments["noise_sampler"] or _brownian(rows, arguments)
            arguments["noise_sampler"] = lambda *between: spread(moved(*between))
        yield


def _brownian(rows: Tensor, arguments: dict[str, Any]) -> Callable[..., Tensor]:
    """What the sampler would make itself where the host's option leaves it to it, but for the target's rows."""
    from k_diffusion.sampling import BrownianTreeNoiseSampler

    sigmas = arguments["sigmas"]
    motion: Callable[..., Tensor] = BrownianTreeNoiseSampler(rows, sigmas[sigmas > 0].min(), sigmas.max())
    return motion
