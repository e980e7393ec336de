"""A UNet whose layout comes through decoder block 4: what is silent in it, its bottom, and what lies above.

- The encoder's residual branches and transformers above stride 4 and block 4's shortcut have zero weights for good, so
  the skips above block 4 are linear in the noisy latent and all from below comes through the injected feature.
- The bottom (strides 4 and 8) has a head that reads a clean latent from block 4's output: not the picture's own but
  that of the same scene in one plain style. So what the bottom says is what is drawn, not how.

How both are trained: `demo.train.base`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SILENT = (1, 2, 4, 5)  # encoder blocks at strides 1 and 2 that are more than a convolution
BLOCK = 4  # decoder block whose residual branch is the method's feature
STRIDE = 4  # its cells' side, in latents
PLAIN = "shaded"  # the style in which the bottom sees every scene


def silence(unet: Any) -> None:
    """Zero, and freeze, what would find the layout above the bottom or lead it past block 4's residual branch."""
    for number in SILENT:
        resnet, transformer = unet.input_blocks[number]
        for last in (resnet.out_layers[3], transformer.proj_out):
            _zero(last)
        unet.input_blocks[number].requires_grad_(False)
    _zero(unet.output_blocks[BLOCK][0].skip_connection)
    unet.output_blocks[BLOCK][0].skip_connection.requires_grad_(False)


@torch.no_grad()
def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.zero_()


def embedding(unet: Any, timestep: Tensor) -> Tensor:
    """Timesteps (n,) to what the residual blocks are told of them: (n, 4 w)."""
    from ldm.modules.diffusionmodules.util import timestep_embedding

    return unet.time_embed(timestep_embedding(timestep, unet.model_channels))


def skips_above(unet: Any, noisy: Tensor, told: Tensor, context: Tensor) -> list[Tensor]:
    """The skips of the decoder's blocks above `BLOCK`, in the order in which they are read, of a silenced UNet."""
    whole = unet.input_blocks[0](noisy, told, context)
    half = unet.input_blocks[3](whole, told, context)
    quarter = unet.input_blocks[6](half, told, context)
    return [quarter, *[half] * 3, *[whole] * 3]


def bottom(unet: Any, noisy: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
    """Block 4's output (n, w, h/4, w/4) of a silenced UNet, without computing what is silent."""
    told = embedding(unet, timestep)
    h, skips = skips_above(unet, noisy, told, context)[0], []
    for block in unet.input_blocks[7:]:
        h = block(h, told, context)
        skips.append(h)
    h = unet.middle_block(h, told, context)
    for block in unet.output_blocks[: BLOCK + 1]:
        h = block(torch.cat([h, skips.pop()], 1), told, context)
    return h


def top(unet: Any, below: Tensor, noisy: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
    """The noise estimate (n, 4, h, w) from block 4's output and the noisy latent."""
    told = embedding(unet, timestep)
    h = below
    for block, skip in zip(unet.output_blocks[BLOCK + 1 :], skips_above(unet, noisy, told, context), strict=True):
        h = block(torch.cat([h, skip], 1), told, context)
    return unet.out(h)


def above_only(unet: Any) -> Callable[..., Tensor]:
    """A silenced UNet's noise estimate of `(noisy, timestep, context)`, without computing what is silent; no gradient
    reaches the bottom."""

    def answer(noisy: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        with torch.no_grad():
            below = bottom(unet, noisy, timestep, context)
        return top(unet, below, noisy, timestep, context)

    return answer


def alone(unet: Any) -> list[nn.Module]:
    """What only the bottom reads through. The time embedding and the encoder's convolutions above are not among it:
    they make the skips and the step that what lies above reads."""
    return [*unet.input_blocks[7:], unet.middle_block, *unet.output_blocks[: BLOCK + 1]]


def make_head(channels: int) -> nn.Module:
    """Block 4's output to the plain clean latent (n, 4, h, w); dropped when training ends."""
    return nn.Sequential(nn.Conv2d(channels, 4 * STRIDE**2, 1), nn.PixelShuffle(STRIDE))


def seen_as(style: str) -> tuple[str, ...]:
    """The styles in which a style's scenes have to be drawn and encoded."""
    return tuple(dict.fromkeys((style, PLAIN)))
