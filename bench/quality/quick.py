"""Does a generated layout come over? The quick look during a training: one base, told two styles.

The base draws a scene in one style and redraws it in another, from the same noise, with injection and without: the IoU
of the things with those of the content picture, and the target's style, over all ordered pairs of styles. The whole
bench needs a fine-tune a style; this needs none.

    python -m bench.quality.quick --tokenizer DIR [--parts demo/checkpoints] [--scenes 12]
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.quality.methods import Task, content, redraw
from bench.quality.plan import Kind, Method
from bench.quality.scores import iou
from demo import classifier
from demo.parts import SHIPPED, Models, load
from demo.styles import CHECKPOINT_STYLES
from demo.train.unet import SIDE
from demo.world import caption, make_scene

FIRST_SCENE = 45_000  # held out, and not the bench's
BATCH = 6
DEFAULT = Method(Kind.GENERATED, value="default")
METHODS = (
    replace(DEFAULT, value="off", feature_ratio=0.0, attention_ratio=0.0),
    DEFAULT,
    replace(DEFAULT, value="full 0.6", layer_profile="full", feature_ratio=0.6, attention_ratio=0.6),
)


@dataclass(frozen=True)
class Told:
    """A vocabulary that names a style in every caption but the empty one: the base as that style's checkpoint."""

    vocabulary: Any
    style: str

    def batch(self, texts: Sequence[str]) -> torch.Tensor:
        """Token rows (n, 77) of the captions with the style's name."""
        return self.vocabulary.batch([f"{text}, {self.style} style" if text else text for text in texts])


def told(base: Models, style: str) -> Models:
    """The base as the checkpoint of one style."""
    return replace(base, vocabulary=Told(base.vocabulary, style))


def pairs(
    base: Models, judge: classifier.Judge, scenes: int, methods: Sequence[Method] = METHODS, side: int = SIDE
) -> dict[str, np.ndarray]:
    """By method, a row a picture: IoU with the content picture, and the target style's probability: (n, 2)."""
    styles = {style: told(base, style) for style in CHECKPOINT_STYLES}
    rows: dict[str, list[tuple[float, float]]] = {method.value: [] for method in methods}
    every = list(itertools.permutations(CHECKPOINT_STYLES, 2))
    for number, (source, target) in enumerate(every):
        seeds = [FIRST_SCENE + k for k in range(scenes) if k % len(every) == number]
        for at in range(0, len(seeds), BATCH):
            task = _task(seeds[at : at + BATCH], styles[source], side)
            for method in methods:
                made = judge.judge(redraw(method, task, styles[target]))
                drawn = content(method, task, styles[target])
                own = judge.judge(made_by_source(drawn))
                rows[method.value] += [
                    (iou(m.mask, o.mask), m.style_probability[target]) for m, o in zip(made, own, strict=True)
                ]
    return {name: np.array(found) for name, found in rows.items()}


def made_by_source(drawn: np.ndarray | None) -> np.ndarray:
    """The content pictures, which every method here has."""
    if drawn is None:
        raise ValueError("only methods with a generated source are compared here")
    return drawn


def _task(seeds: Sequence[int], source: Models, side: int) -> Task:
    noise = [torch.randn(4, side // 8, side // 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    nothing = np.zeros((len(seeds), side, side, 3), np.uint8)  # no picture to start from
    return Task(nothing, [caption(make_scene(seed)) for seed in seeds], torch.stack(noise), source)


def main() -> None:
    """Print a line a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, default=SHIPPED)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    base = load(options.parts, "base", options.tokenizer)
    judge = classifier.load(options.parts / "judge.safetensors")
    for name, found in pairs(base, judge, options.scenes).items():
        print(f"{name:10} IoU with the content {found[:, 0].mean():.2f}, style {found[:, 1].mean():.2f}")


if __name__ == "__main__":
    main()
