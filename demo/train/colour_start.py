"""A start for the VAE's weights that keeps colour from the first step.

GroupNorm takes mean and scale away from every group of channels. With the 2 channels a group that 64
channels give, a flat picture keeps one sign per group and loses its colour; training needs long to find a way
round. With 3 channels a group (96 channels) there is a way through: K + s, K - s and -2K, with s the signal
and K a constant held by a bias. Their mean is zero and their scale is that of K, so s passes unharmed.

So three groups carry red, green and blue, down by 2x2 means and up by repetition. At step 0 the VAE is an
8-pixel mosaic of the right colours. Blocks that the way does not need are silent at first (`spare`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from demo.nets import Vae

GROUPS = 32
REFERENCE = 2.0
LATENT_GAIN = 2.0
COLOURS_KEPT = 3
POSTERIOR_STD = 0.08  # of the latents, everywhere and for good: training leaves it alone


def colour_start(vae: Vae) -> None:
    """Set the weights in place; everything that carries no colour keeps its random start, made smaller."""
    width = vae.encoder.conv_in.out_channels // GROUPS
    if width < 3:
        raise ValueError(f"the colour start needs 3 channels a group, there are {width}")
    carriers = [
        (colour * width + place, colour, sign)
        for colour in range(COLOURS_KEPT)
        for place, sign in enumerate((1.0, -1.0))
    ]
    with torch.no_grad():
        for module in (vae.encoder, vae.decoder):
            _calm(module)
        for block in spare(vae):
            block.conv2.weight.zero_()
        _into(vae.encoder.conv_in, carriers, 1.0)
        for level in range(3):
            _pass_on(vae.encoder.down[level].downsample.conv, carriers, slice(0, 2), 0.25)
        _reference(vae.encoder.mid.block_2.conv2, width)
        _out_of(vae.encoder.conv_out, carriers, LATENT_GAIN / _passed(width))
        _identity(vae.quant_conv)
        set_posterior(vae)
        _identity(vae.post_quant_conv)
        _into(vae.decoder.conv_in, carriers, 1 / LATENT_GAIN)
        for level in range(1, 4):
            _pass_on(vae.decoder.up[level].upsample.conv, carriers, slice(1, 2), 1.0)
        _reference(vae.decoder.up[0].block[0].conv2, width)
        _out_of(vae.decoder.conv_out, carriers, 1 / _passed(width))


def spare(vae: Vae) -> list[Any]:
    """The encoder's residual blocks above its middle, and each decoder level's second one."""
    return [level.block[0] for level in vae.encoder.down] + [level.block[1] for level in vae.decoder.up]


@torch.no_grad()
def fit_readout(vae: Vae, picture: torch.Tensor, ridge: float = 1e-3) -> None:
    """Set the decoder's last convolution by least squares on pictures (n, 3, h, w) in -1..1."""
    features: list[torch.Tensor] = []
    hook = vae.decoder.conv_out.register_forward_pre_hook(lambda _, args: features.append(args[0]))
    for row in picture:
        vae.decode(vae.encode(row[None])[0])
    hook.remove()
    inputs = torch.nn.functional.unfold(torch.cat(features), 3, padding=1).transpose(1, 2).flatten(0, 1)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1).double()
    gram = inputs.T @ inputs
    gram.diagonal().add_(ridge * len(inputs))
    wanted = inputs.T @ picture.permute(0, 2, 3, 1).reshape(-1, 3).double()
    weights = torch.linalg.solve(gram, wanted).float()
    vae.decoder.conv_out.weight.copy_(weights[:-1].T.view_as(vae.decoder.conv_out.weight))
    _bias(vae.decoder.conv_out).copy_(weights[-1])


Carriers = list[tuple[int, int, float]]  # channel, colour, sign


def set_posterior(vae: Vae) -> None:
    """Make the posterior's standard deviation a constant."""
    half = vae.quant_conv.out_channels // 2
    with torch.no_grad():
        vae.quant_conv.weight[half:] = 0
        _bias(vae.quant_conv)[half:] = 2 * math.log(POSTERIOR_STD)


def _bias(conv: nn.Conv2d) -> torch.Tensor:
    """The bias of a convolution that has one."""
    if conv.bias is None:
        raise TypeError("this layout's convolutions have biases")
    return conv.bias


def _passed(width: int) -> float:
    """Slope of silu(GroupNorm(K + s)) - silu(GroupNorm(K - s)) for small s."""
    scale = REFERENCE * (6 / width) ** 0.5
    level = torch.tensor(REFERENCE / scale)
    gate = torch.sigmoid(level)
    return float(2 / scale * gate * (1 + level * (1 - gate)))


def _calm(module: nn.Module) -> None:
    """Shrink the last convolution of every residual branch and attention: the skip path leads at first."""
    for name, child in module.named_modules():
        if name.endswith(("conv2", "proj_out")) and isinstance(child, nn.Conv2d):
            child.weight *= 0.2
            _bias(child).zero_()


def _into(conv: nn.Conv2d, carriers: Carriers, gain: float) -> None:
    for channel, colour, sign in carriers:
        conv.weight[channel].zero_()
        _bias(conv)[channel] = 0
        conv.weight[channel, colour, 1, 1] = sign * gain


def _pass_on(conv: nn.Conv2d, carriers: Carriers, taps: slice, gain: float) -> None:
    for channel, _, _ in carriers:
        conv.weight[channel].zero_()
        _bias(conv)[channel] = 0
        conv.weight[channel, channel, taps, taps] = gain


def _reference(conv: nn.Conv2d, width: int) -> None:
    pattern = torch.zeros(width)
    pattern[0], pattern[1], pattern[2] = REFERENCE, REFERENCE, -2 * REFERENCE
    _bias(conv).copy_(pattern.repeat(GROUPS))


def _out_of(conv: nn.Conv2d, carriers: Carriers, gain: float) -> None:
    conv.weight *= 0.05
    _bias(conv).zero_()
    for channel, colour, sign in carriers:
        conv.weight[colour, channel].zero_()
        conv.weight[colour, channel, 1, 1] = sign * gain


def _identity(conv: nn.Conv2d) -> None:
    conv.weight.copy_(torch.eye(conv.out_channels)[:, :, None, None])
    _bias(conv).zero_()
