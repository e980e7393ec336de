"""Every source with every target: one scene as an m x m sheet, ``python -m demo.grid --out docs/demo-grid.png``.

A row is a source: the scene drawn in its style, inverted with its checkpoint. A column is a target.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from demo.run import SCENE, checkpoint
from demo.sample import sheet
from demo.styles import CHECKPOINT_STYLES, draw
from demo.train.unet import SIDE
from demo.world import Scene, caption, make_scene
from ditail_ext.settings import Settings
from ditail_ext.standalone.job import Job, run
from ditail_ext.standalone.model import Compute
from ditail_ext.standalone.parameters import Sampling


def row(scene: Scene, source: str, folder: Path, compute: Compute) -> np.ndarray:
    """The scene in the source's style, then as every target redraws it: (1 + m, h, w, 3) uint8."""
    original = draw(scene, source, SIDE)
    picture, inverted = folder / f"{source}.png", folder / f"{source}.safetensors"
    Image.fromarray(original).save(picture)
    cells = [original]
    for target in CHECKPOINT_STYLES:
        kept = inverted if inverted.exists() else None
        job = Job(
            picture=picture,
            target=checkpoint(target),
            source=None if kept else checkpoint(source),
            sampling=Sampling(caption(scene), "", steps=20, cfg_scale=5.0),
            settings=Settings(),
            shorter_side=0,
            loaded_trajectory=kept,
        )
        result = run(job, compute)
        result.trajectory.save(inverted)
        cells.append(np.asarray(result.picture))
    return np.stack(cells)


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scene", type=int, default=SCENE)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(options.threads)
    scene, compute = make_scene(options.scene), Compute.choose("cpu", "fp32")
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(scene, source, Path(folder), compute) for source in CHECKPOINT_STYLES]
    headings = ["the picture", *(f"target: {style}" for style in CHECKPOINT_STYLES)]
    sheet(rows, [f"source:\n{style}" for style in CHECKPOINT_STYLES], headings).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
