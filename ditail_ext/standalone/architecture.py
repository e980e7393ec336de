"""The networks of an SD1.x checkpoint, built from ldm's modules by its ``.yaml`` or by SD1.5's own sizes."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

with contextlib.redirect_stdout(io.StringIO()):  # ldm prints while it is imported
    from ldm.modules.attention import CrossAttention
    from ldm.modules.diffusionmodules.model import Decoder, Encoder
    from ldm.modules.diffusionmodules.openaimodel import UNetModel
    from ldm.modules.diffusionmodules.util import timestep_embedding

SD1_CONFIG: Mapping[str, Any] = {
    "linear_start": 0.00085,
    "linear_end": 0.0120,
    "scale_factor": 0.18215,
    "parameterization": "eps",
    "unet_config": {
        "params": {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 320,
            "attention_resolutions": [4, 2, 1],
            "num_res_blocks": 2,
            "channel_mult": [1, 2, 4, 4],
            "num_heads": 8,
            "use_spatial_transformer": True,
            "transformer_depth": 1,
            "context_dim": 768,
            "use_checkpoint": False,
            "legacy": False,
        }
    },
    "first_stage_config": {
        "params": {
            "embed_dim": 4,
            "ddconfig": {
                "double_z": True,
                "z_channels": 4,
                "resolution": 256,
                "in_channels": 3,
                "out_ch": 3,
                "ch": 128,
                "ch_mult": [1, 2, 4, 4],
                "num_res_blocks": 2,
                "attn_resolutions": [],
                "dropout": 0.0,
            },
        }
    },
    "cond_stage_config": {"params": {}},
}
"""``model.params`` of SD1.5's own ``v1-inference.yaml``, as far as it matters here."""


class _SdpCrossAttention(CrossAttention):
    """ldm's attention through torch's fused kernel: no tokens-squared matrix in memory."""

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        out = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(out.transpose(1, 2).flatten(2))


class FittingUNet(UNetModel):
    """ldm's UNet for latents of any size.

    ldm's own needs multiples of 8 (pictures in multiples of 64). Where upsampling gives a pixel more than the
    skip connection has, the decoder's feature is resized to it, as the WebUI does.
    """

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor | None = None,
        context: Tensor | None = None,
        y: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """The UNet's output (rows, 4, h, w), as ldm's own computes it where that can; ``y`` is SDXL's vector."""
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels, repeat_only=False))
        if self.num_classes is not None:
            emb = emb + self.label_emb(y)
        skips = []
        h = x
        for block in self.input_blocks:
            h = block(h, emb, context)
            skips.append(h)
        h = self.middle_block(h, emb, context)
        for block in self.output_blocks:
            skip = skips.pop()
            if h.shape[-2:] != skip.shape[-2:]:
                h = F.interpolate(h, skip.shape[-2:], mode="nearest")
            h = block(torch.cat([h, skip], dim=1), emb, context)
        return self.out(h)


class AutoencoderKL(nn.Module):
    """ldm's VAE without its training code: pictures (B, 3, H, W) in -1..1, latents (B, 4, H/8, W/8), unscaled."""

    def __init__(self, embed_dim: int, ddconfig: Mapping[str, Any]) -> None:
        super().__init__()
        self.encoder = Encoder(**ddconfig)
        self.decoder = Decoder(**ddconfig)
        self.quant_conv = nn.Conv2d(2 * ddconfig["z_channels"], 2 * embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, ddconfig["z_channels"], 1)

    def encode_mean(self, pictures: Tensor) -> Tensor:
        """The posterior's mean: no randomness enters the inversion."""
        mean, _ = self.quant_conv(self.encoder(pictures)).chunk(2, dim=1)
        return mean

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of unscaled latents."""
        return self.decoder(self.post_quant_conv(latents))


def build_unet(config: Mapping[str, Any]) -> nn.Module:
    """The UNet of ``model.params.unet_config``, in the current default device and without gradients."""
    params = {**copy.deepcopy(dict(config["unet_config"]["params"])), "use_checkpoint": False}
    with contextlib.redirect_stdout(io.StringIO()):  # ldm prints while it builds
        unet = FittingUNet(**params)
    use_fused_attention(unet)
    return unet.eval().requires_grad_(False)


def use_fused_attention(unet: nn.Module) -> None:
    """Let ldm's attention layers compute with torch's fused kernel, which gives the same."""
    for module in unet.modules():
        if type(module) is CrossAttention:
            module.__class__ = _SdpCrossAttention


def build_vae(config: Mapping[str, Any]) -> AutoencoderKL:
    """The VAE of ``model.params.first_stage_config``."""
    params = copy.deepcopy(dict(config["first_stage_config"]["params"]))
    with contextlib.redirect_stdout(io.StringIO()):
        vae = AutoencoderKL(int(params["embed_dim"]), dict(params["ddconfig"]))
    vae.eval().requires_grad_(False)
    return vae
