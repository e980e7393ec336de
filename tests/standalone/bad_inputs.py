"""Wrong inputs and the sentence that each gets.

``docs/bad-input.md`` shows them; ``python -m tests.standalone.bad_inputs`` prints its table, and a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ditail_ext.core import Level, SourceTrajectory


@dataclass(frozen=True)
class Case:
    """``prepare`` gets an empty folder and the small checkpoints' folder; it returns the options to add."""

    what: str
    prepare: Callable[[Path, Path], list[str]]
    sentence: str


def _options(*options: str) -> Callable[[Path, Path], list[str]]:
    return lambda folder, checkpoints: list(options)


def _written(option: str, name: str, content: bytes) -> Callable[[Path, Path], list[str]]:
    def prepare(folder: Path, checkpoints: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return [f"{option}={folder / name}"] if option else [str(folder / name)]

    return prepare


def _tensors(name: str, *keys: str) -> Callable[[Path, Path], list[str]]:
    def prepare(folder: Path, checkpoints: Path) -> list[str]:
        save_file({key: torch.zeros(2, 2) for key in keys}, folder / name)
        return [f"--target={folder / name}"]

    return prepare


def _changed(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path, Path], list[str]]:
    def prepare(folder: Path, checkpoints: Path) -> list[str]:
        tensors = load_file(checkpoints / "target.safetensors")
        change(tensors)
        save_file(tensors, folder / "changed.safetensors")
        text = (checkpoints / "target.yaml").read_text("utf-8").replace("text-encoder", f"{checkpoints}/text-encoder")
        (folder / "changed.yaml").write_text(text, "utf-8")
        return [f"--target={folder / 'changed.safetensors'}"]

    return prepare


def _without(mark: str) -> Callable[[Path, Path], list[str]]:
    def remove(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if mark in name]:
            del tensors[name]

    return _changed(remove)


def _nine_channels(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(64, 9, 3, 3)


def _not_finite(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.diffusion_model.out.2.bias"][0] = float("nan")


def _wrong_shape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["first_stage_model.quant_conv.weight"] = torch.zeros(8, 4, 1, 1)


def _truncated(folder: Path, checkpoints: Path) -> list[str]:
    content = (checkpoints / "target.safetensors").read_bytes()
    (folder / "truncated.safetensors").write_bytes(content[: len(content) // 2])
    return [f"--target={folder / 'truncated.safetensors'}"]


def _without_yaml(folder: Path, checkpoints: Path) -> list[str]:
    (folder / "small.safetensors").write_bytes((checkpoints / "target.safetensors").read_bytes())
    return [f"--target={folder / 'small.safetensors'}"]


def _bad_yaml(text: str) -> Callable[[Path, Path], list[str]]:
    def prepare(folder: Path, checkpoints: Path) -> list[str]:
        _without_yaml(folder, checkpoints)
        (folder / "small.yaml").write_text(text, "utf-8")
        return [f"--target={folder / 'small.safetensors'}"]

    return prepare


def _mask(size: tuple[int, int], grey: int) -> Callable[[Path, Path], list[str]]:
    def prepare(folder: Path, checkpoints: Path) -> list[str]:
        Image.new("L", size, grey).save(folder / "mask.png")
        return [f"--mask={folder / 'mask.png'}"]

    return prepare


def _trajectory(size: tuple[int, int], *more: str) -> Callable[[Path, Path], list[str]]:
    def prepare(folder: Path, checkpoints: Path) -> list[str]:
        levels = [Level(0, 0.99), Level(901, 0.01)]
        SourceTrajectory(levels, torch.zeros(2, 1, 4, *size)).save(folder / "inverted.safetensors")
        return ["WITHOUT --source", f"--load-trajectory={folder / 'inverted.safetensors'}", *more]

    return prepare


def _existing(folder: Path, checkpoints: Path) -> list[str]:
    (folder / "precious.png").write_bytes(b"precious")
    return [f"--output={folder / 'precious.png'}"]


def _same_output_twice(folder: Path, checkpoints: Path) -> list[str]:
    return [f"--output={folder / 'one.png'}", f"--sheet={folder / 'one.png'}"]


def _tiny(folder: Path, checkpoints: Path) -> list[str]:
    Image.new("RGB", (40, 300)).save(folder / "tiny.png")
    return [str(folder / "tiny.png"), "--size=0"]


def _foreign_trajectory(folder: Path, checkpoints: Path) -> list[str]:
    return ["WITHOUT --source", f"--load-trajectory={checkpoints / 'target.safetensors'}"]


def _other_space(folder: Path, checkpoints: Path) -> list[str]:
    """A target's copy whose latents are scaled otherwise."""
    (option,) = _changed(lambda tensors: None)(folder, checkpoints)
    beside = folder / "changed.yaml"
    beside.write_text(beside.read_text("utf-8").replace("scale_factor: 1.0", "scale_factor: 0.5"), "utf-8")
    return [option.replace("--target", "--aggregate"), "--aggregate-ratio=0.5"]


def _beside(*more: str) -> Callable[[Path, Path], list[str]]:
    return lambda folder, checkpoints: [f"--aggregate={checkpoints / 'source.safetensors'}", *more]


_UNET_KEY = "model.diffusion_model.input_blocks.0.0.weight"
_JSON = json.dumps({"model": "none"}).encode()

CASES = (
    Case("no such picture", _options("nowhere.png"), "There is no picture at nowhere.png."),
    Case(
        "picture is no picture",
        _written("", "notes.png", b"not a picture"),
        "notes.png is no picture that can be read; save it as PNG or JPEG.",
    ),
    Case(
        "picture cut off",
        _written("", "cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0"),
        "cut.png is no picture that can be read; save it as PNG or JPEG.",
    ),
    Case(
        "picture too small",
        _tiny,
        "The picture would be 40x296, but needs at least 64 pixels a side; use a larger one or a larger --size.",
    ),
    Case("no such target", _options("--target=none.safetensors"), "There is no checkpoint at none.safetensors."),
    Case("no such source", _options("--source=none.safetensors"), "There is no checkpoint at none.safetensors."),
    Case("target is a folder", _options("--target=."), ". is a folder; name the checkpoint's .safetensors file."),
    Case(
        "a .ckpt",
        _written("--target", "old.ckpt", b"PK"),
        "old.ckpt is not a .safetensors file; convert the checkpoint to safetensors.",
    ),
    Case(
        "checkpoint of no bytes",
        _written("--target", "empty.safetensors", b""),
        "empty.safetensors is damaged or not a safetensors file; download it again.",
    ),
    Case(
        "checkpoint is a web page",
        _written("--target", "page.safetensors", b"<html>Not found</html>" * 10),
        "page.safetensors is damaged or not a safetensors file; download it again.",
    ),
    Case(
        "checkpoint truncated",
        _truncated,
        "truncated.safetensors is damaged or not a safetensors file; download it again.",
    ),
    Case(
        "a LoRA as target",
        _tensors("style.safetensors", "lora_unet_mid_block.lora_up.weight"),
        "style.safetensors is a LoRA; the embedded host reads SD1.x checkpoints.",
    ),
    Case(
        "a VAE as target",
        _tensors("vae.safetensors", "encoder.conv_in.weight", "decoder.conv_in.weight"),
        "vae.safetensors is a VAE; the embedded host reads SD1.x checkpoints.",
    ),
    Case(
        "SDXL as target",
        _tensors("xl.safetensors", "conditioner.embedders.0.transformer.text_model.x", _UNET_KEY),
        "xl.safetensors is an SDXL checkpoint; the embedded host reads SD1.x checkpoints.",
    ),
    Case(
        "SD3 as target",
        _tensors("sd3.safetensors", "model.diffusion_model.joint_blocks.0.x"),
        "sd3.safetensors is an SD3 checkpoint; the embedded host reads SD1.x checkpoints.",
    ),
    Case(
        "a diffusers UNet as target",
        _tensors("unet.safetensors", "conv_in.weight", "down_blocks.0.x"),
        "unet.safetensors is a part of a diffusers folder; the embedded host reads SD1.x checkpoints.",
    ),
    Case(
        "something else as target",
        _tensors("other.safetensors", "weights"),
        "other.safetensors holds no UNet and no VAE and no text encoder; use a full SD1.x checkpoint.",
    ),
    Case(
        "checkpoint without VAE",
        _without("first_stage_model"),
        "changed.safetensors holds no VAE; use a full SD1.x checkpoint.",
    ),
    Case(
        "inpainting checkpoint",
        _changed(_nine_channels),
        "changed.safetensors takes 9 input channels (an inpainting, depth or editing model); the embedded host "
        "reads ordinary SD1.x checkpoints.",
    ),
    Case(
        "a tensor missing",
        _without("output_blocks.7.0.out_layers.3"),
        "changed.safetensors lacks 2 tensors of the UNet (the first: output_blocks.7.0.out_layers.3.weight); "
        "download it again or use another checkpoint.",
    ),
    Case(
        "a tensor of another shape",
        _changed(_wrong_shape),
        "The VAE of changed.safetensors has other sizes than its configuration says (the first: "
        "quant_conv.weight); put the model's own .yaml beside it.",
    ),
    Case(
        "numbers that are not finite",
        _changed(_not_finite),
        "changed.safetensors holds numbers that are not finite in the UNet (the first: out.2.bias); the file is "
        "broken or does not fit the chosen precision.",
    ),
    Case(
        "other sizes and no .yaml",
        _without_yaml,
        "small.safetensors has a UNet of 64 channels with text of width 64, where 320 and 768 were expected; put "
        "the model's small.yaml beside it.",
    ),
    Case(
        ".yaml is no yaml",
        _bad_yaml("model: [unclosed"),
        "small.yaml beside small.safetensors is not a model configuration; mend it.",
    ),
    Case(
        ".yaml without a model",
        _bad_yaml("model: none"),
        "small.yaml beside small.safetensors is not a model configuration; mend it.",
    ),
    Case(
        "prompt too long",
        _options("--prompt=" + "word " * 100),
        'The prompt "word word word word word word word word ..." has 100 tokens, but at most 75 are read; '
        "shorten it.",
    ),
    Case("no steps", _options("--steps=0"), "--steps must be from 1 to 999, not 0."),
    Case("steps in words", _options("--steps=ten"), "Argument --steps: invalid int value: 'ten'; see --help."),
    Case("CFG scale of 0", _options("--cfg-scale=0"), "--cfg-scale must be from 1 to 100, not 0."),
    Case("CFG scale not a number", _options("--cfg-scale=nan"), "--cfg-scale must be from 1 to 100, not nan."),
    Case("tiny size", _options("--size=8"), "--size must be 0 or from 64 to 4096, not 8."),
    Case("no threads", _options("--threads=0"), "--threads must be at least 1, not 0."),
    Case("scale out of range", _options("--positive-scale=11"), "positive_scale must be from 0 to 10, not 11.0."),
    Case("ratio above 1", _options("--feature-ratio=1.5"), "feature_ratio must be from 0 to 1, not 1.5."),
    Case("ratio not a number", _options("--attention-ratio=nan"), "attention_ratio must be from 0 to 1, not nan."),
    Case("too many refinements", _options("--refinements=9"), "refinements must be from 0 to 5, not 9."),
    Case(
        "unknown rule",
        _options("--inversion-rule=best"),
        "Argument --inversion-rule: invalid choice: 'best' (choose from 'authors', 'warm start', 'fast'); see --help.",
    ),
    Case(
        "misspelt option",
        _options("--positiv-scale=2"),
        "Unrecognized arguments: --positiv-scale=2; see --help.",
    ),
    Case("no such mask", _options("--mask=none.png"), "There is no mask at none.png."),
    Case(
        "mask of another size",
        _mask((64, 64), 255),
        "The mask mask.png is 64x64, but the picture 96x64; paint the mask on the picture itself.",
    ),
    Case(
        "black mask",
        _mask((96, 64), 0),
        "The mask mask.png is black all over, so nothing would be injected; paint white.",
    ),
    Case("output exists", _existing, "FOLDER/precious.png exists already; use --overwrite to replace it."),
    Case(
        "output folder missing",
        _options("--output=nowhere/out.png"),
        "nowhere/out.png cannot be written; name a file in a folder that exists and can be written to.",
    ),
    Case(
        "output is no PNG",
        _options("--output=out.jpg"),
        "out.jpg should end in .png; give it that ending.",
    ),
    Case(
        "two outputs in one file",
        _same_output_twice,
        "FOLDER/one.png is named twice, as an output and as another file; choose another output.",
    ),
    Case(
        "no GPU",
        _options("--device=cuda"),
        "There is no cuda device here; use --device cpu or leave it out.",
    ),
    Case(
        "trajectory and source",
        lambda folder, checkpoints: _trajectory((8, 12))(folder, checkpoints)[1:],
        "--load-trajectory takes a finished inversion, so --source contradicts it; leave one out.",
    ),
    Case(
        "trajectory and inversion setting",
        _trajectory((8, 12), "--positive-scale=2"),
        "--load-trajectory takes a finished inversion, so --positive-scale contradicts it; leave one out.",
    ),
    Case(
        "trajectory of another picture",
        _trajectory((16, 16)),
        "The trajectory in inverted.safetensors belongs to a picture of 128x128, not of 96x64; invert this picture.",
    ),
    Case(
        "trajectory of other steps",
        _trajectory((8, 12)),
        "The trajectory in inverted.safetensors was inverted along 1 steps, which do not start where 4 steps do; "
        "use the same --steps.",
    ),
    Case(
        "trajectory is a checkpoint",
        _foreign_trajectory,
        "CHECKPOINTS/target.safetensors is a safetensors file, but not a Ditail trajectory.",
    ),
    Case(
        "no such checkpoint to aggregate",
        _options("--aggregate=none.safetensors", "--aggregate-ratio=0.5"),
        "There is no checkpoint at none.safetensors.",
    ),
    Case(
        "aggregation with another latent space",
        _other_space,
        "changed has another scale_factor than the target, so their latents cannot be merged; choose a checkpoint of "
        "the target's family.",
    ),
    Case(
        "aggregation's weight is none",
        _beside("--aggregate-weight=1.5", "--aggregate-ratio=0.5"),
        "A checkpoint's weight must be from 0 to 1, not 1.5.",
    ),
    Case(
        "aggregation's weights sum to too much",
        _beside(
            "--aggregate=none.safetensors", "--aggregate-weight=0.6", "--aggregate-weight=0.7", "--aggregate-ratio=0.5"
        ),
        "The weights of the further checkpoints sum to 1.3; keep their sum at 1 or below, the target has the rest.",
    ),
    Case(
        "aggregation's window is empty",
        _beside("--aggregate-ratio=0.2"),
        "The aggregation's window, from step 0 to 0, is empty; let it end at least one step after it begins.",
    ),
    Case(
        "aggregation's window is none",
        _beside("--aggregate-ratio=2"),
        "A ratio of steps must be from 0 to 1, not 2.0.",
    ),
    Case(
        "fewer weights than checkpoints to aggregate",
        _beside("--aggregate=none.safetensors", "--aggregate-weight=0.5"),
        "--aggregate-weight is given 1 times for 2 checkpoints; give one for each, in the same order.",
    ),
    Case(
        "four checkpoints to aggregate",
        _options(*["--aggregate=none.safetensors"] * 4),
        "--aggregate may be given 3 times, not 4; leave some out.",
    ),
    Case(
        "aggregation without a checkpoint",
        _options("--aggregate-ratio=0.5"),
        "--aggregate-ratio means nothing alone; name a checkpoint with --aggregate.",
    ),
)


def table() -> str:
    """The cases as docs/bad-input.md shows them."""
    rows = [f"| {case.what} | {case.sentence} |" for case in CASES]
    return "\n".join(["| What is wrong | What stands on stderr |", "| --- | --- |", *rows])


if __name__ == "__main__":
    print(table())  # noqa: T201
