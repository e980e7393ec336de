"""Reading an SD1.x checkpoint file: what it is, what it lacks, and its tensors by part."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError, safe_open  # type: ignore[attr-defined]
from torch import Tensor

from ..errors import CheckpointError
from .architecture import SD1_CONFIG

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer."

_INPUT_CONV = f"{UNET}input_blocks.0.0.weight"
_CONTEXT_KEY = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"

_OTHER_FILES = (
    ("conditioner.embedders", "an SDXL checkpoint"),
    ("model.diffusion_model.joint_blocks", "an SD3 checkpoint"),
    ("double_blocks", "a Flux checkpoint"),
    ("cond_stage_model.model.", "an SD2.x checkpoint"),
    ("lora_", "a LoRA"),
    ("down_blocks.", "a part of a diffusers folder"),
    ("conv_in.", "a part of a diffusers folder"),
    ("encoder.", "a VAE"),
    ("text_model.", "a text encoder"),
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file that was looked at, not yet loaded.

    Attributes:
        path: the ``.safetensors`` file.
        config: ``model.params`` of its ``.yaml``, or SD1.5's.
        shapes: every tensor's shape, by its full name.
        sha256: hash of the whole file, as the WebUI shows its first ten digits.
    """

    path: Path
    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    sha256: str

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def text_folder(self) -> Path | None:
        """The folder with the text encoder's ``config.json``, where the ``.yaml`` names one."""
        version = self.config["cond_stage_config"].get("params", {}).get("version")
        return None if version is None else (self.path.parent / str(version)).resolve()

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of one part, in their stored precision, without the prefix."""
        with safe_open(self.path, framework="pt") as file:  # type: ignore[attr-defined]
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {_modern(name)[len(prefix) :]: file.get_tensor(name) for name in names}


def open_checkpoint(path: Path) -> Checkpoint:
    """Look at a checkpoint file.

    Raises:
        CheckpointError: it is missing, damaged, or not an SD1.x checkpoint with UNet, VAE and text encoder.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the checkpoint's .safetensors file.")
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint at {path}.")
    if path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path.name} is not a .safetensors file; convert the checkpoint to safetensors.")
    try:
        with safe_open(path, framework="pt") as file:  # type: ignore[attr-defined]
            shapes = {_modern(name): tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is damaged or not a safetensors file; download it again.") from error
    _require_sd1(path, shapes)
    config = _read_config(path)
    _require_sizes(path, shapes, config)
    return Checkpoint(path, config, shapes, _sha256(path))


def _modern(name: str) -> str:
    """A tensor's name as today's transformers has it; early SD1 files lack ``text_model``."""
    if name.startswith(TEXT) and not name.startswith(f"{TEXT}text_model."):
        return f"{TEXT}text_model.{name[len(TEXT) :]}"
    return name


def _require_sd1(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for mark, what in _OTHER_FILES:
        if any(name.startswith(mark) for name in shapes):
            raise CheckpointError(f"{path.name} is {what}; the embedded host reads SD1.x checkpoints.")
    parts = {_INPUT_CONV: "UNet", f"{VAE}encoder.conv_in.weight": "VAE"}
    missing = [part for key, part in parts.items() if key not in shapes]
    if not any(name.startswith(TEXT) for name in shapes):
        missing.append("text encoder")
    if missing:
        raise CheckpointError(f"{path.name} holds no {' and no '.join(missing)}; use a full SD1.x checkpoint.")
    if shapes[_INPUT_CONV][1] != 4:
        raise CheckpointError(
            f"{path.name} takes {shapes[_INPUT_CONV][1]} input channels (an inpainting, depth or editing model); "
            "the embedded host reads ordinary SD1.x checkpoints."
        )


def _require_sizes(path: Path, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> None:
    unet = config["unet_config"]["params"]
    expected = (unet["model_channels"], unet["context_dim"])
    found = (shapes[_INPUT_CONV][0], shapes.get(_CONTEXT_KEY, (0, 0))[1])
    if found != expected:
        beside = path.with_suffix(".yaml").name
        raise CheckpointError(
            f"{path.name} has a UNet of {found[0]} channels with text of width {found[1]}, where {expected[0]} and "
            f"{expected[1]} were expected; put the model's {beside} beside it."
        )


def _read_config(path: Path) -> Mapping[str, Any]:
    """``model.params`` of the sibling ``.yaml``, filled up with SD1.5's."""
    sibling = path.with_suffix(".yaml")
    if not sibling.is_file():
        return SD1_CONFIG
    try:
        loaded: Any = OmegaConf.to_container(OmegaConf.load(sibling), resolve=True)
        params = loaded["model"]["params"]
        config = {**SD1_CONFIG, **params}
        config["unet_config"]["params"]["model_channels"]
        config["first_stage_config"]["params"]["ddconfig"]["z_channels"]
        config["cond_stage_config"].get("params", {})
    except (OSError, yaml.YAMLError, OmegaConfBaseException, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{sibling.name} beside {path.name} is not a model configuration; mend it.") from error
    return config


def require_tensors(module: torch.nn.Module, checkpoint: Checkpoint, prefix: str, part: str) -> None:
    """Check by the file's header that it holds every tensor of a module, in its size.

    Raises:
        CheckpointError: a tensor is missing or has another size.
    """
    expected = {f"{prefix}{name}": tuple(value.shape) for name, value in module.state_dict().items()}
    missing = [name for name in expected if name not in checkpoint.shapes]
    if missing:
        raise CheckpointError(
            f"{checkpoint.path.name} lacks {len(missing)} tensors of the {part} (the first: "
            f"{missing[0].removeprefix(prefix)}); download it again or use another checkpoint."
        )
    wrong = [name for name, shape in expected.items() if checkpoint.shapes[name] != shape]
    if wrong:
        raise CheckpointError(
            f"The {part} of {checkpoint.path.name} has other sizes than its configuration says (the first: "
            f"{wrong[0].removeprefix(prefix)}); put the model's own .yaml beside it."
        )


def load_weights(module: torch.nn.Module, checkpoint: Checkpoint, prefix: str, part: str, dtype: torch.dtype) -> None:
    """Give a module built on the meta device its weights, cast to ``dtype``.

    Normalisation layers stay in float32 in any case: they are small, and their kernels want it.

    Raises:
        CheckpointError: a tensor is missing, has another size or holds numbers that are not finite.
    """
    require_tensors(module, checkpoint, prefix, part)
    tensors = checkpoint.tensors(prefix)
    norms = {
        name for name, child in module.named_modules() if isinstance(child, (torch.nn.GroupNorm, torch.nn.LayerNorm))
    }
    cast = {
        name: tensors[name].to(torch.float32 if name.rpartition(".")[0] in norms else dtype)
        for name in module.state_dict()
    }
    broken = [name for name, value in cast.items() if not bool(value.isfinite().all())]
    if broken:
        raise CheckpointError(
            f"{checkpoint.path.name} holds numbers that are not finite in the {part} (the first: {broken[0]}); "
            "the file is broken or does not fit the chosen precision."
        )
    module.load_state_dict(cast, assign=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
