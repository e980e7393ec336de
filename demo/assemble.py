"""Build full SD1-layout checkpoints from the shipped parts: `python -m demo.assemble --out FOLDER`.

Writes `ditail-demo-NAME.safetensors` and its `.yaml` for the base and every style, the LoRA, and the folder
`text-encoder` (tokenizer and config.json) that the yaml names by its absolute path. Copy or point the WebUI's
`models/Stable-diffusion` and `models/Lora` there; keep `text-encoder` where it is.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from demo import parts, tokenizer
from demo.nets import TEXT_CONFIG, TOKENS, UNET_CONFIG, VAE_CONFIG, VOCABULARY
from demo.parts import SHIPPED, UNETS
from demo.styles import LORA_STYLE
from demo.text import UNKNOWN

log = logging.getLogger(__name__)

LINEAR_START, LINEAR_END = 0.00085, 0.0120
TEXT_PREFIX = "cond_stage_model.transformer.text_model."


def main() -> None:
    """Assemble everything that is shipped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, default=SHIPPED)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--merges", type=Path, help=f"{tokenizer.MERGES}, if the clip package is not installed")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    assemble(options.parts, options.out, options.merges)


def assemble(folder: Path, out: Path, merges: Path | None = None) -> list[Path]:
    """Write the text encoder's folder and every checkpoint; returns the checkpoints' paths."""
    text_folder = (out / "text-encoder").resolve()
    write_text_folder(text_folder, merges)
    scale = parts.world_facts(folder)["scale_factor"]
    shared = {**schedule_buffers(), **vae_keys(folder), **text_keys(folder)}
    written = []
    for name in UNETS:
        if not (folder / f"unet-{name}.safetensors").exists():
            log.warning("no UNet for %s in %s: left out", name, folder)
            continue
        unet = {f"model.diffusion_model.{k}": v for k, v in parts.read(folder, f"unet-{name}").items()}
        path = out / f"ditail-demo-{name}.safetensors"
        save_file(_half({**unet, **shared}), str(path), metadata={"format": "pt"})
        path.with_suffix(".yaml").write_text(yaml_text(text_folder, scale), encoding="utf-8")
        written.append(path)
        log.info("%s: %.1f MB", path.name, path.stat().st_size / 1e6)
    change = folder / f"lora-{LORA_STYLE}.safetensors"
    if change.exists():
        shutil.copyfile(change, out / f"ditail-demo-{LORA_STYLE}-lora.safetensors")
    return written


def write_text_folder(folder: Path, merges: Path | None) -> None:
    """Tokenizer and text-model configuration, as a local model folder for transformers."""
    tokenizer.write(folder, merges)
    config = {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": VOCABULARY,
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "torch_dtype": "float32",
        **TEXT_CONFIG,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights in fp16, the schedule in float32, integers as they are."""
    return {
        k: v.half().contiguous() if v.is_floating_point() and "." in k else v.contiguous() for k, v in state.items()
    }


def vae_keys(folder: Path) -> dict[str, torch.Tensor]:
    """The VAE under the checkpoint's names."""
    return {f"first_stage_model.{k}": v for k, v in parts.read(folder, "vae").items()}


def text_keys(folder: Path) -> dict[str, torch.Tensor]:
    """The text encoder under the checkpoint's names, its embedding expanded to CLIP's vocabulary."""
    out = {}
    for name, value in parts.read(folder, "text").items():
        if name == "embeddings.token_embedding.weight":
            value = expand(value, parts.world_facts(folder)["clip_ids"])
        out[TEXT_PREFIX + name] = value
    out[TEXT_PREFIX + "embeddings.position_ids"] = torch.arange(TOKENS)[None]
    return out


def expand(rows: torch.Tensor, clip_ids: list[int]) -> torch.Tensor:
    """Compact embedding (known + 1, d) to (49408, d): every unknown token gets the unknown row."""
    full = rows[UNKNOWN].expand(VOCABULARY, -1).clone()
    known = [k for k in range(len(rows)) if k != UNKNOWN]
    full[clip_ids] = rows[known]
    return full


def schedule_buffers() -> dict[str, torch.Tensor]:
    """The buffers that ldm's DDPM registers for the scaled-linear schedule: each (1000,) float32."""
    betas = torch.linspace(LINEAR_START**0.5, LINEAR_END**0.5, 1000, dtype=torch.float64) ** 2
    bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
    variance = betas * (1 - before) / (1 - bar)
    buffers = {
        "betas": betas,
        "alphas_cumprod": bar,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": bar.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - bar).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - bar).log(),
        "sqrt_recip_alphas_cumprod": bar.rsqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / bar - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * before.sqrt() / (1 - bar),
        "posterior_mean_coef2": (1 - before) * (1 - betas).sqrt() / (1 - bar),
    }
    return {name: value.float() for name, value in buffers.items()}


def config(text_folder: Path, scale_factor: float) -> dict[str, Any]:
    """The checkpoint's configuration, as the WebUI and ldm read it."""
    first_stage = {"embed_dim": 4, "monitor": "val/rec_loss", "ddconfig": VAE_CONFIG}
    params = {
        "linear_start": LINEAR_START,
        "linear_end": LINEAR_END,
        "num_timesteps_cond": 1,
        "log_every_t": 200,
        "timesteps": 1000,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": 32,
        "channels": 4,
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "monitor": "val/loss_simple_ema",
        "scale_factor": scale_factor,
        "use_ema": False,
        "unet_config": {
            "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
            "params": UNET_CONFIG,
        },
        "first_stage_config": {
            "target": "ldm.models.autoencoder.AutoencoderKL",
            "params": {**first_stage, "lossconfig": {"target": "torch.nn.Identity"}},
        },
        "cond_stage_config": {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": str(text_folder)},
        },
    }
    target = "ldm.models.diffusion.ddpm.LatentDiffusion"
    return {"model": {"base_learning_rate": 1.0e-4, "target": target, "params": params}}


def yaml_text(text_folder: Path, scale_factor: float) -> str:
    """`config` as YAML (JSON's quoting of strings is YAML too, so the folder may hold any character)."""
    return _yaml(config(text_folder, scale_factor), 0)


def _yaml(node: dict[str, Any], depth: int) -> str:
    lines = []
    for key, value in node.items():
        if isinstance(value, dict):
            lines.append(f"{'  ' * depth}{key}:\n{_yaml(value, depth + 1)}")
        else:
            lines.append(f"{'  ' * depth}{key}: {json.dumps(value)}\n")
    return "".join(lines)


if __name__ == "__main__":
    main()
