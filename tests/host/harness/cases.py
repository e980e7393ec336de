"""Requests that the WebUI and its descendants are to answer with the same picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .client import Answer, Client, circle, encode, left_half
from .probe import Records
from .server import WebUI

BETA = {"source_checkpoint": "beta.safetensors"}
MIX = {**BETA, "mix_checkpoint": "delta.safetensors", "mix_weight": 0.5}
SIZE = 128
"""Of the pictures, in both directions.

On half of that the narrow UNets' deepest layers normalise two numbers at a time, and blow what hosts round differently
up to a picture's difference.
"""

PICTURE = encode(circle(SIZE, SIZE))
GIVEN = {**BETA, "picture": PICTURE}
LORA = "a red circle <lora:tiny:1>"
BOTH = "a red circle AND a blue square :0.7"
HIRES = {
    "enable_hr": True,
    "hr_scale": 1.5,
    "hr_upscaler": "Latent",
    "denoising_strength": 0.6,
    "hr_cfg": 4,
    "hr_additional_modules": ["Use same choices"],
}
"""``hr_cfg`` is reForge's and Forge's own; their APIs take 1 for it where nothing is said.

The last is Forge's, whose API fails without.
"""


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        tab: ``img2img`` or ``txt2img``.
        ditail: the arguments by name.
        request: over the usual one.
    """

    tab: str = "img2img"
    ditail: Mapping[str, Any] = field(default_factory=lambda: BETA)
    request: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, client: Client, **ditail: Any) -> Answer:
        """The answer, with some of the arguments changed."""
        ask = client.img2img if self.tab == "img2img" else client.txt2img
        start = {"init_images": [PICTURE]} if self.tab == "img2img" else {}
        return ask({**self.ditail, **ditail}, **{**start, "height": SIZE, **self.request})

    def without(self, name: str) -> Case:
        """The same request with one of the host's parameters left out."""
        return Case(self.tab, self.ditail, {key: value for key, value in self.request.items() if key != name})


def _of(tab: str = "img2img", ditail: Mapping[str, Any] = BETA, **request: Any) -> Case:
    return Case(tab, ditail, request)


SAMPLERS = (
    *("DDIM", "PLMS", "UniPC", "Euler", "Heun", "LMS", "DPM2", "DPM++ 2M", "DPM fast", "DPM adaptive"),
    *("Euler a", "DPM2 a", "DPM++ 2S a", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 3M SDE", "Restart", "LCM"),
)
"""Those that both have; what the later ones draw is drawn alike."""

SCHEDULERS = (
    *("Karras", "Exponential", "Polyexponential", "Uniform", "SGM Uniform"),
    *("KL Optimal", "Simple", "Normal", "DDIM", "Align Your Steps"),
)
"""Those that both compute alike; reForge's "Beta" has another rule than the WebUI's."""

CASES = {
    **{f"picture, {name}": _of(sampler_name=name) for name in SAMPLERS},
    **{f"picture, scheduler {name}": _of(sampler_name="Euler", scheduler=name) for name in SCHEDULERS},
    **{f"generated, {name}": _of("txt2img", sampler_name=name) for name in SAMPLERS},
    "given picture": _of("txt2img", GIVEN),
    "source is target": _of(ditail={}),
    "source of another VAE": _of(ditail={"source_checkpoint": "gamma.safetensors"}),
    "source in a pickle": _of(ditail={"source_checkpoint": "twin.ckpt"}),
    "target predicts v": _of(override_settings={"sd_model_checkpoint": "vpred.safetensors"}),
    "source predicts v": _of(ditail={"source_checkpoint": "vpred.safetensors"}),
    "batch of 2, twice": _of(batch_size=2, n_iter=2),
    "generated, batch of 2, twice": _of("txt2img", batch_size=2, n_iter=2),
    "LoRA": _of(prompt=LORA),
    "LoRA, generated": _of("txt2img", prompt=LORA),
    "LoRA of the inversion": _of(ditail={**BETA, "inversion_prompt": LORA}),
    "AND": _of(prompt=BOTH),
    "AND, Euler": _of(prompt=BOTH, sampler_name="Euler"),
    "AND, generated, batch of 2": _of("txt2img", prompt=BOTH, batch_size=2),
    "prompt editing": _of(prompt="a [red:blue:0.5] circle"),
    "long prompt": _of(prompt="a red circle " * 40),
    "CFG 1": _of(cfg_scale=1),
    "width": _of(width=192),
    "tiling": _of(tiling=True),
    "mix": _of(ditail=MIX),
    "mix, LoRA, twice": _of(ditail=MIX, prompt=LORA, n_iter=2),
    "refiner": _of("txt2img", steps=10, refiner_checkpoint="delta.safetensors", refiner_switch_at=0.6),
    "hires fix": _of("txt2img", **HIRES),
    "hires fix, LoRA": _of("txt2img", prompt=LORA, **HIRES),
    "all layers": _of(ditail={**BETA, "layer_profile": "full"}),
    "blend weights": _of(ditail={**BETA, "feature_weight": 0.5, "attention_weight": 0.7}),
    "region": _of(ditail={**BETA, "region": "region mask", "mask": left_half(SIZE, SIZE)}),
}
"""By name; none has a mask, for the WebUI's encoder draws what lies outside of it anew for each request."""

OTHERWISE = {"forge": {"tiling": "Forge makes no pictures that tile: it notes the wish and goes on without"}}
"""What a host does otherwise by itself, Ditail or not, and why: the picture cannot be the WebUI's."""

MASKED = {"mask": left_half(SIZE, SIZE), "inpainting_fill": 1, "mask_blur": 0}
MASKED_SAMPLERS = ("DDIM", "PLMS", "UniPC")


def masked(webui: WebUI, sampler: str, ditail: Mapping[str, Any] = BETA) -> Records:
    """What a host samples with the left half regenerated."""
    webui.probe.reset()
    assert Case(ditail=ditail, request={"sampler_name": sampler, **MASKED}).ask(webui).status == 200
    return webui.probe.records()
