"""Models that the host itself holds beside the loaded one."""

from __future__ import annotations

from typing import Any

from modules import sd_models

from .loaded import LoadedState, held_models
from .second_model import SecondModel


def held_by_host(info: Any) -> SecondModel | None:
    """A checkpoint that the host itself holds beside the loaded one, where its limit lets it hold several."""
    data = sd_models.model_data
    for model in held_models():
        if model is not data.sd_model and model.sd_checkpoint_info.filename == info.filename:
            return SecondModel(info, LoadedState.of(model))
    return None
