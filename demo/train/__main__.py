"""Train everything: `python -m demo.train --folder STATE --tokenizer DIR`.

Stages: VAE, latents, text encoder (with a UNet that is not kept), the base from its bottom up, one fine-tune per
style, the LoRA, the base's bottom from itself, the fine-tunes once more from mistakes, the decoder again. Each stage
has a time budget, keeps its state in the folder and is skipped when the budget is spent; run the command again to go
on where it stopped. With `torchrun --standalone --nproc-per-node N -m demo.train` N processes share the work
(`demo.train.workers`).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from demo import parts
from demo.styles import CHECKPOINT_STYLES, LORA_STYLE
from demo.text import Vocabulary
from demo.train import base, bottom, latents, mistakes, stage, top, workers
from demo.train import unet as train_unet
from demo.train import vae as train_vae
from demo.train.latents import Drawings
from demo.train.unet import SIDE, Pool

log = logging.getLogger(__name__)

MINUTES = {
    "vae": 25.0,
    "latents": 18.0,
    "text": 185.0,
    "style": 9.0,
    "lora": 12.0,
    "taught": 82.0,
    "mistakes": 35.0,
    "decoder": 22.0,
}
COUNTS = {128: 1500, SIDE: 1200}  # training scenes per style, by the picture's side
CROWDED = 900  # such scenes of two and three things per style, and as many with a mistake in them
VAE_SCENES = 600


def main() -> None:
    """Run the chain."""
    options = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    workers.start()
    run(options.folder, options.tokenizer, options.share, torch.device(options.device))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where states, latents and logs live")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of CLIP's tokenizer files")
    parser.add_argument("--share", type=float, default=1.0, help="share of the time budgets and data")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def run(folder: Path, tokenizer: Path, share: float, device: torch.device) -> None:
    """Every stage in order; done ones are skipped."""
    folder.mkdir(parents=True, exist_ok=True)

    def plan(name: str, minutes: float, rate: float, seed: int) -> stage.Plan:
        return stage.Plan(name, folder, minutes * 60 * share, rate, seed)

    scenes = max(4, round(VAE_SCENES * share))
    vae_plan = plan("vae", MINUTES["vae"], 5e-4, 0)
    if not stage.is_done(vae_plan):
        train_vae.train(vae_plan, scenes, device)
    encode(folder, share, device)
    scale = latents.scale_factor(folder, CHECKPOINT_STYLES, SIDE)
    log.info("scale_factor %.5f", scale)
    text_plan = plan("text", MINUTES["text"], 1e-3, 1)
    if not stage.is_done(text_plan):
        pools = {side: Pool.load(folder, CHECKPOINT_STYLES, side, scale) for side in COUNTS}
        train_unet.train_text(text_plan, pools, Vocabulary(tokenizer), device)
    if workers.rank() == 0:
        parts.write(folder, folder / "parts", Vocabulary(tokenizer))
    workers.wait()
    models = parts.load(folder / "parts", "base", tokenizer)
    start = base.train(folder, models, tuple(COUNTS), share, device)
    finish(plan, start, models, device)
    mend(plan, start, models, device)
    polish_plan = plan("decoder", MINUTES["decoder"], 8e-4, 30)
    if not stage.is_done(polish_plan):
        train_vae.polish(polish_plan, scenes, vae_plan.state_file, device)
    log.info("all stages done")


def finish(
    plan: Callable[[str, float, float, int], stage.Plan],
    start: Path,
    models: parts.Models,
    device: torch.device,
    only: Sequence[str] = (*CHECKPOINT_STYLES, LORA_STYLE),
) -> None:
    """The fine-tunes and the LoRA, from the base's state."""
    folder, scale = start.parent, models.scale_factor
    for number, style in enumerate(CHECKPOINT_STYLES):
        style_plan = plan(f"style-{style}", MINUTES["style"], 5e-4, 10 + number)
        if style in only and not stage.is_done(style_plan):
            pools = {side: Pool.load(folder, CHECKPOINT_STYLES, side, scale) for side in COUNTS}
            top.train_style(style_plan, start, pools, style, models, device)
    lora_plan = plan("lora", MINUTES["lora"], 2e-3, 20)
    if LORA_STYLE in only and not stage.is_done(lora_plan):
        pools = {side: Pool.load(folder, [LORA_STYLE], side, scale) for side in COUNTS}
        top.train_lora(lora_plan, start, pools, models, device)


def mend(
    plan: Callable[[str, float, float, int], stage.Plan], start: Path, models: parts.Models, device: torch.device
) -> None:
    """What a checkpoint draws wrong less often: the base's bottom from itself, then the fine-tunes on it."""
    folder, scale = start.parent, models.scale_factor
    taught_plan = plan("bottom-taught", MINUTES["taught"], 5e-4, 60)
    if not stage.is_done(taught_plan):
        plain = Pool.load(folder, CHECKPOINT_STYLES, SIDE, scale, bottom.PLAIN)
        base.teach_bottom(taught_plan, start, plain, models, device)
    for number, style in enumerate(CHECKPOINT_STYLES):
        mistakes_plan = plan(f"mistakes-{style}", MINUTES["mistakes"], 4e-4, 90 + number)
        if stage.is_done(mistakes_plan):
            continue
        pool = Pool.load(folder, CHECKPOINT_STYLES, SIDE, scale)
        scenes = mistakes.Scenes.of(style, pool, Pool.load_crowded(folder, [style], SIDE, scale))
        fine_tune = folder / f"style-{style}.pt"
        mistakes.train(mistakes_plan, fine_tune, taught_plan.state_file, scenes, models, device)


def encode(folder: Path, share: float, device: torch.device) -> None:
    """Encode the drawings, small and large, in their own style and for the bottom in the plain one; each worker takes
    its share."""
    vae = train_vae.load(folder / "vae.pt", device)
    jobs = [
        Drawings(style, side, drawn)
        for side in COUNTS
        for style in CHECKPOINT_STYLES
        for drawn in bottom.seen_as(style)
    ]
    jobs += [
        Drawings(style, SIDE, crowded=True, mistaken=wrong) for style in CHECKPOINT_STYLES for wrong in (False, True)
    ]
    jobs += [Drawings(LORA_STYLE, side) for side in COUNTS]
    for drawings in jobs[workers.rank() :: workers.count()]:
        seconds = MINUTES["latents"] * 60 * share / len(jobs) * workers.count() * 2
        many = CROWDED if drawings.crowded else COUNTS[drawings.size]
        latents.encode_style(folder, vae, drawings, max(8, round(many * share)), seconds, device)
    workers.wait()


if __name__ == "__main__":
    main()
