"""Requests with SDXL, SD2 and inpainting checkpoints that the WebUI and its descendants are to answer alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .cases import BOTH, HIRES, MASKED, PICTURE, SIZE, Case
from .client import left_half
from .families import families_in, inpainting_in, loras_in, v_in
from .server import WebUI
from .state import options

TARGETS = {"xl": "xl-alpha", "sd2": "sd2-alpha", "inpainting": "inpainting", "xl-inpainting": "xl-inpainting"}
"""By family, the checkpoint that its cases make pictures with."""

SOURCES = {"xl": "xl-beta", "sd2": "sd2-beta", "inpainting": "beta", "xl-inpainting": "xl-beta"}
"""By family, the checkpoint that its cases take the picture from."""

MASKED_FAMILIES = ("xl", "sd2")
"""Those whose UNet is not told of a mask."""

LATENT_NOISE = {**MASKED, "inpainting_fill": 2}


def source_of(family: str) -> dict[str, str]:
    """The source as an argument."""
    return {"source_checkpoint": f"{SOURCES[family]}.safetensors"}


def lora_of(family: str) -> str:
    """A prompt with a LoRA of the family's layout; SD2 narrow has SD1's sizes."""
    return f"a red circle <lora:{'tiny-xl' if family.startswith('xl') else 'tiny'}:1>"


def _whole(family: str) -> dict[str, Case]:
    """Of a family whose checkpoints may be source and target."""
    source, lora = source_of(family), lora_of(family)
    everywhere = {**source, "layer_profile": "full"}
    mix = {**everywhere, "mix_checkpoint": f"{SOURCES[family]}.safetensors", "mix_weight": 0.5}
    batch = {"batch_size": 2, "n_iter": 2}
    return {
        **{f"picture, {name}": Case(ditail=source, request=_with(name)) for name in PICTURE_SAMPLERS},
        **{f"generated, {name}": Case("txt2img", source, _with(name)) for name in GENERATED_SAMPLERS},
        "given picture": Case("txt2img", {**source, "picture": PICTURE}),
        "source is target": Case(ditail={}),
        "source is target, generated": Case("txt2img", {}, _with("Euler")),
        "batch of 2, twice": Case(ditail=source, request=batch),
        "generated, batch of 2, twice": Case("txt2img", source, batch),
        "LoRA": Case(ditail=source, request={"prompt": lora}),
        "LoRA, generated": Case("txt2img", source, {"prompt": lora}),
        "LoRA of the inversion": Case(ditail={**source, "inversion_prompt": lora}),
        "after a LoRA": Case(ditail=source, request={"seed": 8}),
        "AND": Case(ditail=source, request={"prompt": BOTH}),
        "AND, Euler, batch of 2": Case(ditail=source, request={"prompt": BOTH, **_with("Euler"), **batch}),
        "no negative prompt": Case(ditail=source, request={"negative_prompt": ""}),
        "prompt editing": Case(ditail=source, request={"prompt": "a [red:blue:0.5] circle"}),
        "long prompt": Case(ditail=source, request={"prompt": "a red circle " * 40}),
        "CFG 1": Case(ditail=everywhere, request={"cfg_scale": 1}),
        "width": Case(ditail=source, request={"width": 192}),
        "mix": Case(ditail=mix),
        "mix, LoRA": Case(ditail=mix, request={"prompt": lora}),
        "hires fix": Case("txt2img", source, HIRES),
        "refiner": Case("txt2img", source, _refiner(family)),
        "all layers": Case(ditail=everywhere),
        "region": Case(ditail={**source, "region": "region mask", "mask": left_half(SIZE, SIZE)}),
    }


def _with(sampler: str) -> dict[str, object]:
    """So many steps that the timesteps of a sampler that works with sigmas are whole.

    Hosts with model patchers round what they tell the UNet; SDXL's random UNets show it.
    """
    return {"sampler_name": sampler} if sampler in ("DDIM", "UniPC") else {"sampler_name": sampler, "steps": 10}


def _refiner(family: str) -> dict[str, object]:
    return {"steps": 10, "refiner_checkpoint": f"{SOURCES[family]}.safetensors", "refiner_switch_at": 0.6}


def _inpainting(family: str) -> dict[str, Case]:
    """Of targets with further inputs, which no source may have."""
    source, lora = source_of(family), lora_of(family)
    samplers = ("DDIM", "Euler", "DPM++ 2M")
    masks = {"mask": MASKED, "mask, latent noise": LATENT_NOISE, "mask, weight": {**MASKED, **_HALF}}
    region = {**source, "region": "outside inpaint mask"}
    return {
        **{f"picture, {name}": Case(ditail=source, request=_with(name)) for name in samplers},
        **{
            f"{what}, {name}": Case(ditail=source, request={**_with(name), **mask})
            for name in samplers
            for what, mask in masks.items()
        },
        **{f"generated, {name}": Case("txt2img", source, _with(name)) for name in samplers},
        "given picture": Case("txt2img", {**source, "picture": PICTURE}),
        "mask, batch of 2, twice": Case(ditail=source, request={**MASKED, "batch_size": 2, "n_iter": 2}),
        "mask, LoRA": Case(ditail=source, request={**MASKED, "prompt": lora}),
        "mask, AND": Case(ditail=source, request={**MASKED, "prompt": BOTH}),
        "mask, region": Case(ditail=region, request=MASKED),
    }


PICTURE_SAMPLERS = ("DDIM", "Euler", "DPM++ 2M", "UniPC", "Euler a")
GENERATED_SAMPLERS = ("DDIM", "Euler", "DPM++ 2M")
_V = {"override_settings": {"sd_model_checkpoint": "xl-v.safetensors"}}
_HALF = {"override_settings": {"inpainting_mask_weight": 0.5}}

FAMILY_CASES = {
    **{(family, name): case for family in ("xl", "sd2") for name, case in _whole(family).items()},
    ("sd2", "source of SD1"): Case(ditail={"source_checkpoint": "alpha.safetensors"}),
    ("sd2", "source of SD1, Euler"): Case(
        ditail={"source_checkpoint": "alpha.safetensors"}, request={"sampler_name": "Euler"}
    ),
    ("xl", "source predicts v"): Case(ditail={"source_checkpoint": "xl-v.safetensors"}),
    ("xl", "target predicts v"): Case(ditail=source_of("xl"), request=_V),
    ("xl", "target predicts v, Euler"): Case(ditail=source_of("xl"), request={**_with("Euler"), **_V}),
    **{("inpainting", name): case for name, case in _inpainting("inpainting").items()},
    **{
        ("xl-inpainting", name): case
        for name, case in _inpainting("xl-inpainting").items()
        if name in ("picture, DDIM", "picture, Euler", "mask, DDIM", "mask, Euler", "generated, DDIM")
    },
}
"""By family and name; each family's follow each other."""


@contextmanager
def with_families(webui: WebUI, files: Path, families: Path) -> Iterator[WebUI]:
    """A host that has all of these checkpoints, and the LoRA of SDXL's layout; alpha is its checkpoint afterwards."""
    with ExitStack() as stack:
        stack.enter_context(families_in(webui, families))
        stack.enter_context(inpainting_in(webui, files / "checkpoints" / "alpha.safetensors", "inpainting"))
        stack.enter_context(inpainting_in(webui, families / "xl-alpha.safetensors", "xl-inpainting"))
        stack.enter_context(v_in(webui, families / "xl-beta.safetensors", "xl-v"))
        stack.enter_context(loras_in(webui))
        stack.enter_context(options(webui, {"sd_model_checkpoint": "alpha.safetensors"}))
        yield webui


def aim(webui: WebUI, family: str) -> None:
    """Make the family's target the host's checkpoint, where it is not."""
    wanted = f"{TARGETS[family]}.safetensors"
    if not str(webui.get("/probe/option", name="sd_model_checkpoint").body).startswith(wanted):
        assert webui.post("/sdapi/v1/options", {"sd_model_checkpoint": wanted}).status == 200
