"""What the WebUI keeps in its ``model_hijack`` and on its models, which are modules; reForge has left it so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from modules import sd_hijack
from torch import Tensor, nn


class Hijacked:
    """The parts of a kind that are the same in the WebUI and in reForge."""

    loads_alone = False
    resolves_vaes = True
    masks_with_noise = False

    def alpha_bars(self, model: Any) -> Tensor:
        """The model's own table."""
        table: Tensor = model.alphas_cumprod
        return table

    def notes(self, model: Any) -> Any:
        """One object for all models."""
        return sd_hijack.model_hijack

    def embeddings(self, model: Any) -> Mapping[str, Any]:
        """One table for all models."""
        found: Mapping[str, Any] = sd_hijack.model_hijack.embedding_db.word_embeddings
        return found

    def parts(self, model: Any) -> Sequence[nn.Module]:
        """The model is one module."""
        return (model,)

    def averaged(self, model: Any) -> AbstractContextManager[None]:
        """The host's own, for models that have averages."""
        scope: AbstractContextManager[None] = model.ema_scope()
        return scope

    def before_encoding(self, model: Any) -> None:
        """Its options are read when it encodes."""

    def merged_networks(self, model: Any) -> str | None:
        """The Lora extension's lists say all."""
        return None

    def load(self, info: Any, look: Callable[[Any], None]) -> Any:
        """Not to be called: the host's loader makes each model the loaded one."""
        raise NotImplementedError

    def make_loaded(self, model: Any) -> None:
        """Not to be called: the host's variables are to follow."""
        raise NotImplementedError

    def reload(self, info: Any) -> None:
        """Not to be called: the host has a function for it."""
        raise NotImplementedError

    def is_packed(self, model: Any) -> bool:
        """Never: in 8 bits a weight is a tensor like others."""
        return False

    def options_of_load(self) -> Any:
        """None that the host's options do not name."""
        return None

    def read_vae(self, file: str) -> Mapping[str, Tensor] | None:
        """The host has a reader of its own."""
        return None
