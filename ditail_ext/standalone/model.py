"""A loaded checkpoint as core wants it: predict noise, encode and decode pictures, encode prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..core import (
    Condition,
    Level,
    Levels,
    NoiseSchedule,
    Prediction,
    PredictNoise,
    free_bytes,
    ldm_noise_predictor,
    map_tensors,
    rows_worth_a_call,
)
from ..errors import CheckpointError, DitailError
from .architecture import AutoencoderKL, build_unet, build_vae
from .checkpoint import TEXT, UNET, VAE, Checkpoint, load_weights, require_tensors
from .text import TextEncoder, build_text_model

Network = TypeVar("Network", bound=nn.Module)

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Compute:
    """Where and in which precision the UNet computes; VAE and text encoder stay in float32."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def choose(cls, device: str, precision: str) -> Compute:
        """Resolve ``auto``: a GPU with half precision where there is one, else the CPU in float32.

        Raises:
            DitailError: the device is not there.
        """
        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if device == "auto":
            device = next(name for name in ("cuda", "mps", "cpu") if available[name])
        if not available.get(device.partition(":")[0], False):
            raise DitailError(f"There is no {device} device here; use --device cpu or leave it out.")
        if precision == "auto":
            precision = "fp32" if device == "cpu" else "fp16"
        return cls(torch.device(device), PRECISIONS[precision])


class Model:
    """One checkpoint; its UNet, VAE and text encoder load when first used."""

    def __init__(self, checkpoint: Checkpoint, compute: Compute) -> None:
        self.checkpoint = checkpoint
        self._compute = compute
        config: Mapping[str, Any] = checkpoint.config
        self._scale = float(config["scale_factor"])
        self.schedule = NoiseSchedule.stable_diffusion(
            start=float(config["linear_start"]), end=float(config["linear_end"])
        )
        self.prediction = Prediction.V if config["parameterization"] == "v" else Prediction.EPSILON

    @property
    def title(self) -> str:
        """Name and short hash of the checkpoint, as infotexts have them."""
        return f"{self.checkpoint.name} [{self.checkpoint.sha256[:10]}]"

    @property
    def clean(self) -> Level:
        """The level that DDIM takes a clean latent for: that of timestep 0, as the authors do."""
        return self.schedule.at_timestep(0)

    def check(self) -> None:
        """See by the file's header whether all networks can be built and filled, without loading them.

        Raises:
            CheckpointError: a part is incomplete, of other sizes, or has a configuration that builds nothing.
        """
        require_tensors(self._built(build_unet), self.checkpoint, UNET, "UNet")
        require_tensors(self._built(build_vae), self.checkpoint, VAE, "VAE")
        require_tensors(build_text_model(self.checkpoint), self.checkpoint, TEXT, "text encoder")

    @cached_property
    def unet(self) -> nn.Module:
        """The UNet on the device."""
        unet = self._built(build_unet)
        load_weights(unet, self.checkpoint, UNET, "UNet", self._compute.dtype)
        return unet.to(self._compute.device)

    @cached_property
    def _vae(self) -> AutoencoderKL:
        vae = self._built(build_vae)
        load_weights(vae, self.checkpoint, VAE, "VAE", torch.float32)
        return vae.to(self._compute.device)

    @cached_property
    def _text(self) -> TextEncoder:
        return TextEncoder(self.checkpoint, self._compute.device)

    @cached_property
    def predict_noise(self) -> PredictNoise:
        """The UNet's noise estimate, float32 in and out whatever it computes in."""
        predict = ldm_noise_predictor(self.unet, self.prediction)
        device, dtype = self._compute.device, self._compute.dtype

        def predict_noise(latent: Tensor, level: Levels, cond: Condition) -> Tensor:
            cond = map_tensors(cond, lambda tensor: tensor.to(device))
            with nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype):
                return predict(latent.to(device), level, cond).float()

        return predict_noise

    @property
    def most_rows(self) -> Callable[[Tensor], int] | None:
        """How many of a source's rows, given those of one level, to record in one call; ``None``: one level."""
        device = self._compute.device
        if device.type != "cuda":
            return None
        channels = int(self.checkpoint.config["unet_config"]["params"]["model_channels"])
        return lambda latents: rows_worth_a_call(latents, channels, free_bytes(device))

    def encode_prompt(self, prompt: str) -> Tensor:
        """Embeddings (1, 77, width)."""
        return self._text.encode(prompt)

    @torch.no_grad()
    def encode_picture(self, picture: Tensor) -> Tensor:
        """Latents (1, 4, H/8, W/8), scaled, of a picture (1, 3, H, W) in -1..1: the posterior's mean."""
        return self._vae.encode_mean(picture.to(self._compute.device)) * self._scale

    @torch.no_grad()
    def decode_picture(self, latents: Tensor) -> Tensor:
        """A picture (1, 3, H, W) in -1..1, on the CPU, of scaled latents."""
        return self._vae.decode(latents / self._scale).clamp(-1.0, 1.0).cpu()

    def require_numbers(self, latents: Tensor) -> None:
        """See that what the checkpoint computed are numbers.

        Raises:
            CheckpointError: they are not.
        """
        if not bool(latents.isfinite().all()):
            raise CheckpointError(
                f"{self.checkpoint.name} computed something that is not a number; use --precision fp32, or another "
                "checkpoint."
            )

    def release(self) -> None:
        """Free the networks; they would load again if used."""
        for part in ("unet", "_vae", "_text", "predict_noise"):
            self.__dict__.pop(part, None)
        if self._compute.device.type == "cuda":
            torch.cuda.empty_cache()

    def _built(self, build: Callable[[Mapping[str, Any]], Network]) -> Network:
        """A network on the meta device, from a configuration that somebody wrote by hand."""
        try:
            with torch.device("meta"):
                return build(self.checkpoint.config)
        except (TypeError, ValueError, KeyError, AssertionError, ZeroDivisionError) as error:
            beside = self.checkpoint.path.with_suffix(".yaml").name
            raise CheckpointError(f"{beside} describes no network that can be built ({error}); mend it.") from error
