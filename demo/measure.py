"""How good are the checkpoints? Text-to-image against the judge, on captions of held-out scenes.

`python -m demo.measure --tokenizer DIR --count 200 --out demo/checkpoints/measured.csv`; with `--steps 50 --ancestral`
every step brings fresh noise, as with *Euler a*.
"""

from __future__ import annotations

import argparse
import csv
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demo import classifier
from demo.parts import SHIPPED, Models, load
from demo.sample import held_out_prompts, sample_many
from demo.styles import CHECKPOINT_STYLES, LORA_STYLE
from demo.world import parse_caption

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """Shares of samples (things: of prompted things) that the judge finds right."""

    checkpoint: str
    samples: int
    style: float
    things: float  # prompted things found with their shape and colour
    one_thing: float  # the same over prompts of one thing
    two_things: float
    three_things: float
    exactly: float  # samples with exactly the prompted things and no other


def measure(
    name: str, models: Models, style: str, style_word: bool, count: int, judge: classifier.Judge, **how: Any
) -> Score:
    """Sample `count` held-out captions, with `demo.sample.sample`'s keywords, and have them judged."""
    plain = held_out_prompts(count)
    prompts = [f"{text}, {style} style" for text in plain] if style_word else plain
    verdicts = judge.judge(sample_many(models, prompts, seed=50_000, **how))
    wanted = [parse_caption(text).things for text in plain]
    right = np.array([v.count_right(w) for v, w in zip(verdicts, wanted, strict=True)])
    many = np.array([len(w) for w in wanted])

    def share(number: int) -> float:
        rows = many == number
        return float(right[rows].sum() / max(1, many[rows].sum()))

    return Score(
        name,
        count,
        float(np.mean([v.style == style for v in verdicts])),
        float(right.sum() / many.sum()),
        share(1),
        share(2),
        share(3),
        float(np.mean([v.shows(w) for v, w in zip(verdicts, wanted, strict=True)])),
    )


def main() -> None:
    """Measure every style's checkpoint, the base with each style word, and the LoRA; write a CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, default=SHIPPED)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--judge", type=Path, default=SHIPPED / "judge.safetensors")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--ancestral", action="store_true", help="fresh noise in every step")
    parser.add_argument("--only", nargs="*", help="these rows only: base, the styles, the LoRA's style")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(options.threads)
    judge = classifier.load(options.judge)
    rows: list[tuple[str, str, str | None, str, bool]] = []
    rows += [(style, style, None, style, False) for style in CHECKPOINT_STYLES]
    rows += [("base", f"base, '{style} style'", None, style, True) for style in CHECKPOINT_STYLES]
    rows.append((LORA_STYLE, f"base + {LORA_STYLE} LoRA", LORA_STYLE, LORA_STYLE, False))
    scores = []
    for key, label, lora_name, style, style_word in rows:
        if options.only and key not in options.only:
            continue
        unet = key if key in CHECKPOINT_STYLES else "base"
        models = load(options.parts, unet, options.tokenizer, lora_name)
        how = {"steps": options.steps, "ancestral": options.ancestral}
        scores.append(measure(label, models, style, style_word, options.count, judge, **how))
        log.info("%s", scores[-1])
        write(scores, options.out)


def write(scores: list[Score], path: Path) -> None:
    """The scores as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(scores[0])))
        writer.writeheader()
        for score in scores:
            shown = asdict(score).items()
            writer.writerow({k: f"{v:.3f}" if isinstance(v, float) else v for k, v in shown})


if __name__ == "__main__":
    main()
