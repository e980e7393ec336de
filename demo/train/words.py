"""Stage 5: the base learns from its own fine-tunes what its style words mean.

From pictures alone a style word that sounds like another at the noisiest levels stays so: one base in seven of
"ink style" came out shaded. The fine-tunes settled their style there with the base as teacher, its answer emphasised
(`demo.train.style`). Now they teach in turn: told a style by name the base is to say what that fine-tune says unasked.
Told nothing it is to go on saying what it said, so the fine-tunes and the LoRA keep the base that they started from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from demo.nets import alphas_cumprod
from demo.text import Vocabulary
from demo.train import stage, workers
from demo.train.style import PICTURED, TAUGHT, Teacher, imitation_loss
from demo.train.unet import SIDE, Pool, load_base, noise_loss, noised

EVERY = (0, 1000)  # timesteps at which the base goes on saying what it said without a style word


def train_words(
    plan: stage.Plan,
    base: Path,
    fine_tunes: dict[str, Path],
    pools: dict[int, Pool],
    vocabulary: Vocabulary,
    device: torch.device,
) -> None:
    """Train the base's UNet on; the state also holds the text encoder as it was, so it stands in for the base's."""
    unet, text = load_base(base, vocabulary, device)
    before = Teacher(load_base(base, vocabulary, device)[0].eval().requires_grad_(False), text, vocabulary)
    teachers = {
        style: Teacher(_fine_tuned(path, vocabulary, base, device), text, vocabulary)
        for style, path in fine_tunes.items()
    }
    rows = {128: 4, SIDE: 2} if device.type == "cpu" else {128: 16, SIDE: 8}  # of each of the three parts

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        del progress
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        size = SIDE if number % 3 == 0 else 128
        many = rows[size]
        style = list(teachers)[int(rng.integers(len(teachers)))]
        clean, texts = pools[size].draw(rng, 2 * many, style_word=0.0, empty=0.0)
        clean = clean.to(device)
        told = [f"{words}, {style} style" for words in texts[:many]]
        taught = imitation(unet, teachers[style], clean[:many], told, texts[:many], TAUGHT, rng)
        untold = [words if rng.random() < 0.5 else "" for words in texts[many:]]
        kept = imitation(unet, before, clean[many:], untold, untold, EVERY, rng)
        clean, texts = pools[size].draw(rng, many, style_word=1.0)
        own = noise_loss(unet, clean.to(device), before.context(texts, device), rng, PICTURED)
        numbers = {"taught": taught.item(), "kept": kept.item(), "loss": own.item()}
        return (taught + kept + own) / 3, numbers

    averages = {"unet": stage.Average(unet), "text": stage.Average(text)}
    stage.run(plan, {"unet": unet, "text": text}, step, averages)


def _fine_tuned(path: Path, vocabulary: Vocabulary, base: Path, device: torch.device) -> nn.Module:
    unet = load_base(base, vocabulary, device)[0]
    unet.load_state_dict(stage.load_state(path)["averages"]["unet"])
    return unet.to(device).eval().requires_grad_(False)


def imitation(
    unet: nn.Module,
    teacher: Teacher,
    clean: Tensor,
    asked: list[str],
    teacher_asked: list[str],
    timesteps: tuple[int, int],
    rng: np.random.Generator,
) -> Tensor:
    """The error of the UNet, asked one thing, from what the teacher says when asked the other.

    Args:
        unet: the student.
        teacher: of the same text encoder.
        clean: latents (n, 4, h, w), scaled.
        asked: a text a row.
        teacher_asked: the same for the teacher.
        timesteps: the range to draw from.
        rng: draws timesteps and noise.
    """
    timestep = torch.from_numpy(rng.uniform(*timesteps, len(clean)).astype(np.int64)).to(clean.device)
    noisy, _ = noised(clean, alphas_cumprod().to(clean.device)[timestep], rng)
    goal = teacher.says(noisy, timestep, teacher_asked)
    return imitation_loss(unet, noisy, timestep, teacher.context(asked, clean.device), goal)
