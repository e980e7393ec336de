"""The small networks, in the layout of Stable Diffusion 1.x.

VAE and UNet are ldm's own classes with few channels; the text encoder is CLIP's text model with a compact
embedding (one row per word of the drawn world and one for every other word).
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

VAE_CONFIG: dict[str, Any] = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 96,
    "ch_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
UNET_CONFIG: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 1, 2, 2],
    "num_heads": 4,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": 64,
    "use_checkpoint": False,
    "legacy": False,
}
NARROW_UNET_CONFIG = {**UNET_CONFIG, "channel_mult": [1, 1, 1, 1]}  # in which the trainings begin
TEXT_CONFIG: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": 64,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
TOKENS = 77
VOCABULARY = 49408


class Vae(nn.Module):
    """ldm's AutoencoderKL without its trainer: the same four sub-modules under the same names."""

    def __init__(self) -> None:
        super().__init__()
        with contextlib.redirect_stdout(io.StringIO()):
            from ldm.modules.diffusionmodules.model import Decoder, Encoder
        with contextlib.redirect_stdout(io.StringIO()):
            self.encoder = Encoder(**VAE_CONFIG)
            self.decoder = Decoder(**VAE_CONFIG)
        self.quant_conv = nn.Conv2d(8, 8, 1)
        self.post_quant_conv = nn.Conv2d(4, 4, 1)

    def encode(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Picture (n, 3, h, w) in -1..1 to posterior mean and log variance, each (n, 4, h/8, w/8)."""
        mean, log_variance = self.quant_conv(self.encoder(picture)).chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Latent (n, 4, h, w), unscaled, to a picture (n, 3, 8h, 8w) in about -1..1."""
        return self.decoder(self.post_quant_conv(latent))


def make_unet(config: dict[str, Any] = UNET_CONFIG) -> nn.Module:
    """Ldm's UNetModel, with 64 channels and from stride 4 on with 128; its attention runs as one fused call."""
    with contextlib.redirect_stdout(io.StringIO()):
        from ldm.modules.attention import CrossAttention
        from ldm.modules.diffusionmodules.openaimodel import UNetModel

        unet = UNetModel(**config)
    for module in unet.modules():
        if isinstance(module, CrossAttention):
            module.forward = _fused_attention.__get__(module)
    return unet


def _fused_attention(
    self: Any, x: torch.Tensor, context: torch.Tensor | None = None, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The arithmetic of ldm's CrossAttention.forward, in one scaled_dot_product_attention call."""
    context = x if context is None else context
    q, k, v = (
        t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        for t in (self.to_q(x), self.to_k(context), self.to_v(context))
    )
    return self.to_out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


def make_text_model(rows: int) -> nn.Module:
    """CLIP's text model with `rows` embedding rows and LayerNorm biases away from zero."""
    from transformers import CLIPTextConfig, CLIPTextModel

    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    model = CLIPTextModel(CLIPTextConfig(vocab_size=rows, **{**TEXT_CONFIG, **ends}))
    for name, parameter in model.named_parameters():
        if "embedding" in name:
            nn.init.normal_(parameter, std=0.1 if "token" in name else 0.02)
        elif "norm" in name and name.endswith("bias"):
            nn.init.constant_(parameter, 0.15)
    return model


def alphas_cumprod() -> torch.Tensor:
    """alpha-bar of SD's scaled-linear schedule: (1000,) float32."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()
