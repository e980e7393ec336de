"""Lets Forge, which tells checkpoints by their sizes and has a folder of settings for each kind, load narrow ones.

For tests alone; does nothing to other files.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import yaml
from backend import loader
from huggingface_guess import model_list
from modules import paths_internal, shared

FOLDER = Path(paths_internal.data_path) / "narrow"
"""Forge's own folder of SD1.5 with the narrow checkpoints' sizes; the tests' server throws it away."""


def lay_out(params: dict[str, Any]) -> None:
    shutil.copytree(Path(loader.dir_path) / "huggingface" / model_list.SD15.huggingface_repo, FOLDER)
    text = Path(params["cond_stage_config"]["params"]["version"])
    shutil.copyfile(text / "config.json", FOLDER / "text_encoder" / "config.json")
    vae, known = params["first_stage_config"]["params"]["ddconfig"], FOLDER / "vae" / "config.json"
    config = json.loads(known.read_text(encoding="utf-8"))
    config["block_out_channels"] = [vae["ch"] * times for times in vae["ch_mult"]]
    config["layers_per_block"] = vae["num_res_blocks"]
    config["scaling_factor"] = params["scale_factor"]
    known.write_text(json.dumps(config), encoding="utf-8")


def register(params: dict[str, Any]) -> None:
    sizes = params["unet_config"]["params"]

    class Narrow(model_list.SD15):
        huggingface_repo = str(FOLDER)
        unet_config: ClassVar[dict[str, Any]] = {
            **model_list.SD15.unet_config,
            "context_dim": sizes["context_dim"],
            "model_channels": sizes["model_channels"],
        }
        unet_extra_config: ClassVar[dict[str, Any]] = {"num_heads": sizes["num_heads"], "num_head_channels": -1}

    model_list.models.insert(0, Narrow)


beside = next(Path(shared.cmd_opts.ckpt_dir).glob("*.yaml"), None)
if beside is not None and not FOLDER.exists():
    said = yaml.safe_load(beside.read_text(encoding="utf-8"))["model"]["params"]
    lay_out(said)
    register(said)
