"""Lets Forge, which tells checkpoints by their sizes and has a folder of settings for each kind, load narrow ones.

For tests alone; does nothing to other files.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import yaml
from backend import loader
from huggingface_guess import model_list
from modules import paths_internal, sd_models

FOLDER = Path(paths_internal.data_path) / "narrow"
"""Forge's own folders of settings with the narrow checkpoints' sizes; the tests' server throws them away."""

CLIP, OPEN_CLIP = 64, 384
"""Widths of the narrow checkpoints' text embeddings; no real checkpoint has them, nor both beside each other."""

KINDS = {CLIP: model_list.SD15, OPEN_CLIP: model_list.SD20, CLIP + OPEN_CLIP: model_list.SDXL}

SMALLEST_OPEN_CLIP = {
    "hidden_size": OPEN_CLIP,
    "intermediate_size": 4 * OPEN_CLIP,
    "projection_dim": OPEN_CLIP,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
}
"""What open_clip calls ViT-S-32."""


def sizes_of(params: dict[str, Any]) -> dict[str, Any]:
    """A UNet's; SDXL's are under another name."""
    return params.get("unet_config", params.get("network_config"))["params"]


def clip_of(params: dict[str, Any]) -> Path:
    """The settings of CLIP, from the folder that the ``.yaml`` names."""
    if "cond_stage_config" in params:
        told = params["cond_stage_config"]
    else:
        told = params["conditioner_config"]["params"]["emb_models"][0]
    return Path(told["params"]["version"]) / "config.json"


def change(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads(file.read_text(encoding="utf-8"))
    change(config)
    file.write_text(json.dumps(config), encoding="utf-8")


def lay_out(params: dict[str, Any], known: type, folder: Path) -> None:
    shutil.copytree(Path(loader.dir_path) / "huggingface" / known.huggingface_repo, folder)
    if known is model_list.SD20:  # of its layers the host's settings leave out the last, which is not used
        sizes = {**SMALLEST_OPEN_CLIP, "num_hidden_layers": SMALLEST_OPEN_CLIP["num_hidden_layers"] - 1}
        change(folder / "text_encoder" / "config.json", lambda config: config.update(sizes))
    else:
        shutil.copyfile(clip_of(params), folder / "text_encoder" / "config.json")
    if known is model_list.SDXL:
        change(folder / "text_encoder_2" / "config.json", lambda config: config.update(SMALLEST_OPEN_CLIP))
    vae = params["first_stage_config"]["params"]["ddconfig"]
    sizes_of_vae = {
        "block_out_channels": [vae["ch"] * times for times in vae["ch_mult"]],
        "layers_per_block": vae["num_res_blocks"],
        "scaling_factor": params["scale_factor"],
    }
    change(folder / "vae" / "config.json", lambda config: config.update(sizes_of_vae))


def register(params: dict[str, Any]) -> None:
    sizes = sizes_of(params)
    width = sizes["context_dim"]
    known, folder = KINDS[width], FOLDER / str(width)
    if folder.exists():
        return
    lay_out(params, known, folder)

    class Narrow(known):
        huggingface_repo = str(folder)
        unet_config: ClassVar[dict[str, Any]] = {
            "use_linear_in_transformer": known.unet_config["use_linear_in_transformer"],
            "context_dim": width,
            "model_channels": sizes["model_channels"],
        }
        unet_extra_config: ClassVar[dict[str, Any]] = {
            **known.unet_extra_config,
            **{name: sizes.get(name, -1) for name in ("num_heads", "num_head_channels")},
        }

    model_list.models.insert(0, Narrow)


def load(original, file, **kwargs):
    beside = Path(file).with_suffix(".yaml")
    if beside.is_file():
        params = yaml.safe_load(beside.read_text(encoding="utf-8"))["model"]["params"]
        if sizes_of(params)["context_dim"] in KINDS:
            register(params)
    return original(file, **kwargs)


if not isinstance(sd_models.forge_loader, functools.partial):
    sd_models.forge_loader = functools.partial(load, sd_models.forge_loader)
