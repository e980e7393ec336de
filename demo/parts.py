"""The shipped files: one VAE, one text encoder, one UNet per style and the LoRA, in fp16.

Everything that is the same in all checkpoints is stored once; `demo.assemble` builds full checkpoints from
it. `python -m demo.parts --folder STATE --out demo/checkpoints` writes them from the training's states.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from demo import differences, lora
from demo.nets import Vae, make_unet
from demo.styles import CHECKPOINT_STYLES, LORA_STYLE
from demo.text import TextEncoder, Vocabulary, neutral
from demo.train import latents, stage
from demo.train.unet import SIDE

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parent / "checkpoints"
UNETS = ("base", *CHECKPOINT_STYLES)
# Stages that leave a base as it is shipped, in order.
BASES = ("text", "whole-large", "whole-again", "whole-last", "bottom-taught")
FINE_TUNES = ("style", "mistakes")  # stages that leave a style's fine-tune, in order


@dataclass
class Models:
    """A checkpoint's parts in float32, ready to use."""

    vae: Vae
    text: TextEncoder
    unet: nn.Module
    vocabulary: Vocabulary
    scale_factor: float


def main() -> None:
    """Write the parts from the training's states."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the training's folder")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--tokenizer", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    write(options.folder, options.out, Vocabulary(options.tokenizer))


def write(folder: Path, out: Path, vocabulary: Vocabulary) -> None:
    """Write every part whose stage has left a state, finished or not."""
    out.mkdir(parents=True, exist_ok=True)
    scale = latents.scale_factor(folder, CHECKPOINT_STYLES, SIDE)
    world = {"scale_factor": scale, "clip_ids": vocabulary.clip_ids}
    (out / "world.json").write_text(json.dumps(world) + "\n", encoding="utf-8")
    vae, unet = _last(folder, "vae", "decoder"), _last(folder, *BASES)
    if vae:
        state = stage.load_state(vae)
        _save(out / "vae.safetensors", state["averages"].get("vae") or state["modules"]["vae"])
    if (folder / "text.pt").exists():
        _save(out / "text.safetensors", neutral(stage.load_state(folder / "text.pt")["averages"]["text"]))
    if unet:
        _save(out / "unet-base.safetensors", stage.load_state(unet)["averages"]["unet"])
    for style in CHECKPOINT_STYLES:
        path = _last(folder, *(f"{name}-{style}" for name in FINE_TUNES))
        if path:
            save_fine_tune(out, style, stage.load_state(path)["averages"]["unet"])
    if (folder / "lora.pt").exists():
        change = lora.kohya_state(stage.load_state(folder / "lora.pt")["averages"]["lora"])
        _save(out / f"lora-{LORA_STYLE}.safetensors", change)


def _last(folder: Path, *stages: str) -> Path | None:
    """The state of the last of these stages that has left one."""
    return next((path for name in reversed(stages) if (path := folder / f"{name}.pt").exists()), None)


def save_fine_tune(folder: Path, style: str, unet: Mapping[str, torch.Tensor]) -> None:
    """Write a style's UNet as its difference from the base's file in `folder`: a byte a weight that it changed."""
    _save(folder / f"unet-{style}.safetensors", differences.pack(unet, read(folder, "unet-base")))


def _save(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write floats as fp16, except the scales of differences, which fp16 is too coarse for."""
    kept = {
        k: v.half() if v.is_floating_point() and not k.endswith(differences.SCALE) else v for k, v in state.items()
    }
    save_file({k: v.contiguous() for k, v in kept.items()}, str(path), metadata={"format": "pt"})
    log.info("%s: %.2f MB", path.name, path.stat().st_size / 1e6)


def read(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """One shipped file's weights in float32 (integers as they are), put together with the base's where it holds
    differences from them."""
    state = load_file(str(folder / f"{name}.safetensors"))
    if differences.is_packed(state):
        return differences.unpack(state, read(folder, "unet-base"))
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def world_facts(folder: Path) -> dict:
    """`scale_factor` and `clip_ids`: CLIP's ids of the compact embedding's rows, unknown left out."""
    return json.loads((folder / "world.json").read_text(encoding="utf-8"))


def load(folder: Path, unet_name: str, tokenizer: Path, lora_name: str | None = None) -> Models:
    """Load one checkpoint's parts, with the LoRA merged in where asked for."""
    vocabulary = Vocabulary(tokenizer)
    facts = world_facts(folder)
    if vocabulary.clip_ids != facts["clip_ids"]:
        raise ValueError(f"the words in {folder / 'world.json'} are not those of demo/world.py: train again")
    vae, text, unet = Vae(), TextEncoder(vocabulary.rows), make_unet()
    vae.load_state_dict(read(folder, "vae"))
    text.load_weights(read(folder, "text"))
    unet.load_state_dict(read(folder, f"unet-{unet_name}"))
    if lora_name is not None:
        lora.merge(unet, read(folder, f"lora-{lora_name}"))
    for module in (vae, text, unet):
        module.eval().requires_grad_(False)
    return Models(vae, text, unet, vocabulary, facts["scale_factor"])


if __name__ == "__main__":
    main()
