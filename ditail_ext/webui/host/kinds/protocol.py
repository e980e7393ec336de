"""What the WebUI and its descendants do each in a way of their own, as the rest of the room asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ....core import Condition, Levels


class Kind(Protocol):
    """One kind of host. Whatever a method names ``model`` is the host's object for a loaded checkpoint."""

    whole_conditions: bool
    """Whether a call's rows are whole conditions, each with every image of the batch once and in order."""

    several_models: bool
    """Whether another model may compute while the host's sampler is at work with the target."""

    loads_alone: bool
    """Whether another model can be made without making the host's variables its own."""

    resolves_vaes: bool
    """Whether the host looks for a VAE for a checkpoint, and has variables that say what it found."""

    masks_with_noise: bool
    """Whether every sampler's denoiser puts the picture, with fresh noise, where a mask keeps it."""

    def fits(self, model: Any) -> bool:
        """Whether the host's model is one of this kind."""

    def unet(self, model: Any) -> nn.Module | None:
        """The module to hook; ``None`` if there is none."""

    def output(self, model: Any, rows: Tensor, level: Levels, cond: Condition, image_cond: Tensor | None) -> Tensor:
        """What the UNet returns for VP latents, (rows, C, H, W): epsilon or v, free of other extensions' parts.

        Args:
            model: its UNet is ready.
            rows: as the UNet is given them.
            level: that the UNet is told.
            cond: one entry, or one a row.
            image_cond: what the host gives as ``c_concat``; ``None`` for a placeholder.
        """

    def predicts_v(self, model: Any) -> bool:
        """Whether :meth:`output` is v."""

    def alpha_bars(self, model: Any) -> Tensor:
        """The noise schedule that is in force, (timesteps,)."""

    def ready(self, model: Any, latent: Tensor) -> AbstractContextManager[None]:
        """A context in which :meth:`output` may be called outside of the host's samplers.

        Args:
            model: with the networks that it is to have.
            latent: of the size, and with the rows, that will be computed.
        """

    def encode(self, model: Any, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        """Means of the VAE's posterior, float32, in the model's scale, of pictures (B, 3, H, W) from 0 to 1."""

    def another_vae(self, model: Any, put: Callable[[nn.Module], None]) -> AbstractContextManager[None]:
        """A context in which a model encodes and decodes with other weights, in a module beside its own.

        Args:
            model: loaded.
            put: puts the weights into that module.
        """

    def sampler_call(self, denoiser: Any) -> tuple[Any, str]:
        """The object, and the name of its method, by which a sampler's denoiser asks the UNet: rows come first."""

    def without_networks(self, model: Any) -> AbstractContextManager[None]:
        """A context in which a model has no LoRA, and such as come are gone at its end."""

    def unmerge(self, model: Any) -> None:
        """Give the UNet its own weights back, without LoRAs; the host merges these anew."""

    def merge(self, model: Any) -> None:
        """Let LoRAs be in force again after :meth:`unmerge`, where the host would not see to it at the next call."""

    def schedule_of(self, p: Any, model: Any) -> AbstractContextManager[None]:
        """A context in which a model has the noise schedule that it will be sampled with, by the host's options."""

    def after_failure(self, model: Any) -> None:
        """Undo what the host does to a model around its ``p.sample``, and leaves where that fails."""

    def tiles(self, model: Any) -> bool:
        """Whether a model makes pictures that tile."""

    def tile(self, model: Any, enabled: bool) -> None:
        """Let a model make such pictures, or not."""

    def moves_layers(self, model: Any) -> bool:
        """Whether the host moves parts of the UNet about, so that none may be exchanged."""

    def patched(self, model: Any) -> tuple[str, str] | None:
        """What keeps the whole picture's self-attention from being injected: who does what; ``None`` for nothing."""

    def notes(self, model: Any) -> Any:
        """The object with the ``comments`` and ``extra_generation_params`` that the host notes of prompts."""

    def embeddings(self, model: Any) -> Mapping[str, Any]:
        """The textual inversions that a model's prompts may name."""

    def parts(self, model: Any) -> Sequence[nn.Module]:
        """The modules with all of a model's weights."""

    def averaged(self, model: Any) -> AbstractContextManager[None]:
        """A context in which a model computes with its averaged weights, if the host uses any."""

    def before_encoding(self, model: Any) -> None:
        """Tell a model the options that the host tells it before it encodes a request's prompts."""

    def merged_networks(self, model: Any) -> str | None:
        """What tells a model's LoRAs from others where the Lora extension's lists do not say all."""

    def load(self, info: Any, look: Callable[[Any], None]) -> Any:
        """Make another model, where :attr:`loads_alone`.

        Args:
            info: the checkpoint's.
            look: is shown the weights as they are read.
        """

    def make_loaded(self, model: Any) -> None:
        """Make another model the loaded one, where :attr:`loads_alone`."""

    def reload(self, info: Any) -> None:
        """Make a checkpoint the loaded one again, where :attr:`loads_alone`."""

    def is_packed(self, model: Any) -> bool:
        """Whether the UNet's weights are kept in a form that cannot be computed with."""

    def options_of_load(self) -> Any:
        """What, beside a checkpoint's file and the host's options, makes another model of it; as JSON."""

    def read_vae(self, file: str) -> Mapping[str, Tensor] | None:
        """A VAE's weights, where the host's own function for it reads none."""

    def release(self, model: Any) -> None:
        """Give the memory of a model back that nobody uses any more."""
