"""Train everything: `python -m demo.train --folder STATE`.

Stages: VAE, latents, base UNet with text encoder, one fine-tune per style, the base's style words, the LoRA, the
decoder again. Each
stage has a time budget, keeps its state in the folder and is skipped when the budget is spent; run the
command again to go on where it stopped. With `torchrun --standalone --nproc-per-node N -m demo.train` N processes
share the work (`demo.train.workers`).
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from demo import lora
from demo.styles import CHECKPOINT_STYLES, LORA_STYLE
from demo.text import Vocabulary
from demo.train import latents, stage, workers
from demo.train import style as train_style
from demo.train import unet as train_unet
from demo.train import vae as train_vae
from demo.train import words as train_words
from demo.train.unet import SIDE

log = logging.getLogger(__name__)

MINUTES = {"vae": 25.0, "latents": 6.0, "base": 185.0, "style": 8.0, "words": 12.0, "lora": 55.0, "decoder": 2.0}
COUNTS = {128: 1500, SIDE: 1600}  # training scenes per style, by the picture's side
LORA_SCENES = {128: 1500, SIDE: 1600}
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
    vocabulary = Vocabulary(tokenizer)
    base_plan = plan("base", MINUTES["base"], 1e-3, 1)
    if not stage.is_done(base_plan):
        pools = {size: train_unet.Pool.load(folder, CHECKPOINT_STYLES, size, scale) for size in COUNTS}
        train_unet.train_base(base_plan, pools, vocabulary, device)
    for number, style in enumerate(CHECKPOINT_STYLES):
        style_plan = plan(f"style-{style}", MINUTES["style"], 5e-4, 10 + number)
        if not stage.is_done(style_plan):
            pools = {size: train_unet.Pool.load(folder, [style], size, scale) for size in COUNTS}
            train_style.train_style(style_plan, base_plan.state_file, pools, style, vocabulary, device)
    words_plan = plan("words", MINUTES["words"], 3e-4, 15)
    if not stage.is_done(words_plan):
        pools = {size: train_unet.Pool.load(folder, CHECKPOINT_STYLES, size, scale) for size in COUNTS}
        fine_tunes = {style: folder / f"style-{style}.pt" for style in CHECKPOINT_STYLES}
        train_words.train_words(words_plan, base_plan.state_file, fine_tunes, pools, vocabulary, device)
    lora_plan = plan("lora", MINUTES["lora"], 2e-3, 20)
    if not stage.is_done(lora_plan):
        train_lora(lora_plan, words_plan.state_file, scale, vocabulary, device)
    polish_plan = plan("decoder", MINUTES["decoder"], 3e-4, 30)
    if not stage.is_done(polish_plan):
        train_vae.polish(polish_plan, scenes, vae_plan.state_file, device)
    log.info("all stages done")


def encode(folder: Path, share: float, device: torch.device) -> None:
    """Encode the drawings: small ones, large ones, and those for the LoRA; each worker takes its share."""
    vae = train_vae.load(folder / "vae.pt", device)
    jobs = [
        (style, size, COUNTS[size], part) for size, part in ((128, 0.09), (SIDE, 0.24)) for style in CHECKPOINT_STYLES
    ]
    jobs += [(LORA_STYLE, size, LORA_SCENES[size], part) for size, part in ((128, 0.09), (SIDE, 0.24))]
    for style, size, count, part in jobs[workers.rank() :: workers.count()]:
        seconds = part * MINUTES["latents"] * 60 * share
        latents.encode_style(folder, vae, style, size, max(8, round(count * share)), seconds, device)
    workers.wait()


def train_lora(plan: stage.Plan, base: Path, scale: float, vocabulary: Vocabulary, device: torch.device) -> None:
    """Train the LoRA on the base; its captions never name the style."""
    unet, text = train_unet.load_base(base, vocabulary, device)
    adapters = lora.attach(unet, plan.seed).to(device)
    pools = {size: train_unet.Pool.load(plan.folder, [LORA_STYLE], size, scale) for size in LORA_SCENES}
    step = train_style.lora_step(plan, unet, text, pools, vocabulary)
    stage.run(plan, {"lora": adapters}, step, {"lora": stage.Average(adapters)})


if __name__ == "__main__":
    main()
