"""Pictures for docs/aggregation.md: `python -m bench.aggregation.pictures`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.aggregation.methods import LEVELS, results
from bench.aggregation.plan import Run
from bench.quality.methods import Task
from bench.quality.methods import trajectory as content_trajectory
from bench.quality.plan import Kind, Method
from demo import tokenizer
from demo.parts import SHIPPED, load
from demo.sample import decode, sheet
from demo.styles import CHECKPOINT_STYLES, draw
from demo.train.unet import SIDE
from demo.world import caption, make_scene

PICTURE = Path(__file__).parents[2] / "docs" / "aggregation-pictures.png"
ROWS = (("mosaic", "shaded", 20_049), ("ink", "shaded", 20_043), ("shaded", "mosaic", 20_039))  # where much differs
COLUMNS = {
    "target alone": Run(),
    "slerp 0.5, 2 steps": Run((2,), 0.5),
    "slerp 0.5, 4 steps": Run((4,), 0.5),
    "slerp 0.7, 4 steps": Run((4,), 0.7),
    "injection, defaults": Run(default=True),
    "slerp 0.5, 4 steps + injection, full 0.4": Run((4,), 0.5, full=0.4),
}


def main() -> None:
    """Draw the sheet: the source's own picture, and what the target makes from its noise."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as words:
        tokenizer.write(Path(words))
        models = {style: load(SHIPPED, style, Path(words)) for style in CHECKPOINT_STYLES}
    rows = []
    for source, target, seed in ROWS:
        scene = make_scene(seed)
        noise = torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(seed))
        drawn = draw(scene, source, SIDE)[None]
        task = Task(drawn, [caption(scene)], noise, models[source])
        own = content_trajectory(Method(Kind.GENERATED), task, models[target], LEVELS)
        pictures = [decode(models[source], own.clean)]
        for run in COLUMNS.values():
            ((_, latents),) = results(run, task.captions, own, models[source], models[target])
            pictures.append(decode(models[target], latents))
        rows.append(_halved(np.concatenate(pictures)))
    page = sheet(rows, [f"{s}\nto {t}" for s, t, _ in ROWS], ["the source's own", *COLUMNS])
    page.quantize(128).save(PICTURE, optimize=True)
    print(PICTURE.stat().st_size)


def _halved(pictures: np.ndarray) -> np.ndarray:
    side = SIDE * 3 // 4
    return np.stack([np.asarray(Image.fromarray(picture).resize((side, side))) for picture in pictures])


if __name__ == "__main__":
    main()
