"""SDXL checkpoints that predict v, made of those that predict noise."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save_file


def write(whole: Path, to: Path) -> None:
    """Write a sibling and its ``.yaml``: the same weights, with another meaning of what the UNet says.

    The WebUI and Forge learn it from the ``.yaml``, reForge from an entry that such checkpoints have.

    Args:
        whole: a checkpoint of SDXL's layout, beside its ``.yaml``.
        to: the sibling's file.
    """
    save_file({**load_file(whole), "v_pred": torch.zeros(1)}, str(to), metadata={"format": "pt"})
    settings = yaml.safe_load(whole.with_suffix(".yaml").read_text(encoding="utf-8"))
    scaling = settings["model"]["params"]["denoiser_config"]["params"]["scaling_config"]
    scaling["target"] = "sgm.modules.diffusionmodules.denoiser_scaling.VScaling"
    to.with_suffix(".yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
