"""Where in the picture injection happens: a mask, at whatever resolution a layer works."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InjectionError


class Region:
    """A soft mask over the picture: 1 takes the source's values, 0 leaves the picture its own.

    The values between are strengths, so one mask holds several regions, each as strong as it is bright.

    Injection becomes ``m * source + (1 - m) * own`` for features, queries and keys alike. At m = 0 and m = 1
    this is exact, so outside the region an injected layer computes bit for bit what it would have.
    """

    def __init__(self, mask: Tensor) -> None:
        """Make a region of a mask at latent resolution.

        Args:
            mask: (S, 1, h, w) with values from 0 to 1, where (h, w) is the latents' size and S is 1 or the
                number of source pictures.

        Raises:
            InjectionError: the mask's shape or values are off.
        """
        if mask.ndim != 4 or mask.shape[1] != 1 or mask.numel() == 0:
            raise InjectionError(f"A region mask must have the shape (S, 1, h, w), not {tuple(mask.shape)}.")
        mask = mask.detach().to("cpu", torch.float32)
        if not bool(mask.isfinite().all()) or float(mask.min()) < 0.0 or float(mask.max()) > 1.0:
            raise InjectionError("A region mask must have values from 0 (leave) to 1 (inject).")
        self._mask = mask
        self._planes: dict[tuple[tuple[int, int], torch.device], Tensor] = {}
        self._latent_size = (mask.shape[-2], mask.shape[-1])

    @classmethod
    def from_pixels(cls, mask: Tensor, latent_size: tuple[int, int]) -> Region:
        """A region of a mask (S, 1, H, W) in pixels, averaged down to the latents' size (h, w)."""
        return cls(F.adaptive_avg_pool2d(mask.to(torch.float32), latent_size))

    def blend(self, own: Tensor, source: Tensor, sources: Tensor | None, weight: float = 1.0) -> Tensor:
        """``m * source + (1 - m) * own`` for tokens (rows, n, channels) or planes (rows, channels, h, w).

        Args:
            own: what the layer computed.
            source: what was recorded, of the same shape.
            sources: for each row the index of its source picture, or ``None`` for one source.
            weight: of the source within the region; the mask is multiplied by it.

        Raises:
            InjectionError: the layer's size does not come from the latents' size by halving, or there are several
                masks and it is not known which row takes which.
        """
        if own.ndim == 4:
            mask = self._plane((own.shape[-2], own.shape[-1]), own.device)
        else:
            mask = self._plane(self._grid(own.shape[1]), own.device).flatten(1).unsqueeze(-1)
        if mask.shape[0] > 1:
            if sources is None or int(sources.max()) >= mask.shape[0]:
                raise InjectionError(
                    f"There are {mask.shape[0]} region masks, which is not the number of source pictures; give one "
                    "mask, or one for each source picture."
                )
            mask = mask.index_select(0, sources.to(mask.device))
        mask = (mask * weight).to(own)
        return mask * source + (1.0 - mask) * own

    def _plane(self, size: tuple[int, int], device: torch.device) -> Tensor:
        """The mask averaged down to a size; every layer of that size takes the same copy on its device."""
        if (size, device) not in self._planes:
            self._planes[size, device] = F.adaptive_avg_pool2d(self._mask, size).to(device)
        return self._planes[size, device]

    def _grid(self, tokens: int) -> tuple[int, int]:
        """Height and width of a layer with that many tokens: each downsampling halves, rounding up."""
        height, width = self._latent_size
        while height * width > tokens and height * width > 1:
            height, width = (height + 1) // 2, (width + 1) // 2
        if height * width != tokens:
            raise InjectionError(
                f"A layer with {tokens} tokens does not belong to latents of {self._latent_size[1]}x"
                f"{self._latent_size[0]}; switch off whatever changes the number of tokens, or the region mask."
            )
        return height, width
