"""Text to picture with the demo's networks: DDIM with classifier-free guidance, and contact sheets.

This is the demo's own check of its checkpoints; the project's sampler is `ditail_ext`'s.
`python -m demo.sample --parts demo/checkpoints --tokenizer DIR --out docs/demo-samples.png`
"""

from __future__ import annotations

import argparse
import logging
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from demo.nets import alphas_cumprod
from demo.parts import SHIPPED, UNETS, Models, load
from demo.styles import LORA_STYLE
from demo.train.unet import SIDE
from demo.world import caption, make_scene

log = logging.getLogger(__name__)

SHEET_PROMPTS = (
    "a large red circle in the centre on grey",
    "a small blue star on the left on sand",
    "a large green triangle on the right on mint",
    "a large yellow square at the top on pink",
    "a large purple cross in the centre on sand",
    "a small red star and a large blue square on grey",
    "a large green circle left of a small yellow triangle on pink",
    "a small purple square above a large red cross on mint",
)


@torch.no_grad()
def sample(
    models: Models,
    prompts: Sequence[str],
    seed: int = 0,
    size: int = SIDE,
    steps: int = 25,
    guidance: float = 4.0,
    ancestral: bool = False,
) -> np.ndarray:
    """Pictures for the prompts: (n, size, size, 3) uint8. Row k starts from noise of `seed + k`.

    With `ancestral` every step adds fresh noise, as the WebUI's *Euler a* does: DDIM with eta 1 (arXiv 2010.02502,
    equation 16).
    """
    shape = (4, size // 8, size // 8)
    rows = [torch.Generator().manual_seed(seed + k) for k in range(len(prompts))]
    x = torch.stack([torch.randn(shape, generator=row) for row in rows])
    both = models.text(models.vocabulary.batch([""] * len(prompts) + list(prompts)))
    times = [t + 1 for t in range(0, 1000, 1000 // steps)][:steps][::-1]
    return decode(models, denoise(models.unet, x, both, times, guidance, rows if ancestral else ()))


@torch.no_grad()
def denoise(
    unet: nn.Module,
    noisy: torch.Tensor,
    both: torch.Tensor,
    times: Sequence[int],
    guidance: float,
    fresh: Sequence[torch.Generator] = (),
) -> torch.Tensor:
    """Latents (n, 4, h, w) at timestep `times[0]` to clean ones, by DDIM with classifier-free guidance.

    Args:
        unet: predicts the noise.
        noisy: the latents.
        both: embeddings (2n, 77, w) of the empty captions, then of the prompts.
        times: falling timesteps.
        guidance: the CFG scale.
        fresh: where every row's fresh noise comes from; without, there is none (eta 0).
    """
    alpha_bar, x = alphas_cumprod(), noisy
    for index, time in enumerate(times):
        last = index + 1 == len(times)
        now, after = alpha_bar[time], alpha_bar[0 if last else times[index + 1]]
        timestep = torch.full((2 * len(x),), time)
        empty, prompted = unet(torch.cat([x, x]), timestep, context=both).chunk(2)
        noise = empty + guidance * (prompted - empty)
        clean = (x - (1 - now).sqrt() * noise) / now.sqrt()
        renewed = fresh and not last
        sigma = ((1 - after) / (1 - now) * (1 - now / after)).sqrt() if renewed else torch.zeros(())
        x = after.sqrt() * clean + (1 - after - sigma**2).sqrt() * noise
        if renewed:
            x = x + sigma * torch.stack([torch.randn(x.shape[1:], generator=row) for row in fresh])
    return x


@torch.no_grad()
def decode(models: Models, latent: torch.Tensor) -> np.ndarray:
    """Scaled latents (n, 4, h, w) to pictures (n, 8h, 8w, 3) uint8."""
    rows = [models.vae.decode(row[None] / models.scale_factor) for row in latent]
    picture = torch.cat(rows).clamp(-1, 1).permute(0, 2, 3, 1)
    return ((picture + 1) * 127.5 + 0.5).to(torch.uint8).numpy()


def sample_many(models: Models, prompts: Sequence[str], seed: int = 0, size: int = SIDE, **how: Any) -> np.ndarray:
    """`sample` (whose keywords it takes) in batches of eight; the same pictures whatever the number of prompts."""
    parts = [sample(models, prompts[at : at + 8], seed + at, size, **how) for at in range(0, len(prompts), 8)]
    return np.concatenate(parts)


def held_out_prompts(count: int) -> list[str]:
    """Captions of scenes that no training has seen: all words said, no style named."""
    return [caption(make_scene(seed)) for seed in range(10_000, 10_000 + count)]


def sheet(rows: Sequence[np.ndarray], labels: Sequence[str], headings: Sequence[str] = ()) -> Image.Image:
    """A contact sheet: one row of pictures (n, h, w, 3) per label, headings above the columns."""
    height, width = rows[0].shape[1:3]
    left, top = 84, 44 if headings else 0
    page = Image.new("RGB", (left + width * len(rows[0]), top + height * len(rows)), "white")
    pen = ImageDraw.Draw(page)
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        pen.text((6, top + height * number + height // 2 - 6), label, fill="black")
        for column, picture in enumerate(row):
            page.paste(Image.fromarray(picture), (left + width * column, top + height * number))
    for column, heading in enumerate(headings):
        text = textwrap.fill(heading, 30)
        pen.text((left + width * column + 4, 6), text, fill="black")
    return page


def main() -> None:
    """Write a contact sheet of every checkpoint there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, default=SHIPPED)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=SIDE)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(options.threads)
    rows, labels = [], []
    wanted = [(name, None) for name in UNETS] + [("base", LORA_STYLE)]
    for name, lora_name in wanted:
        files = [f"unet-{name}"] + ([f"lora-{lora_name}"] if lora_name else [])
        if all((options.parts / f"{file}.safetensors").exists() for file in files):
            models = load(options.parts, name, options.tokenizer, lora_name)
            rows.append(sample_many(models, SHEET_PROMPTS, size=options.size))
            labels.append(f"{name}\n+ {lora_name} LoRA" if lora_name else name)
            log.info("sampled %s", labels[-1].replace("\n", " "))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(rows, labels, SHEET_PROMPTS).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
