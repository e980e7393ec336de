"""The demonstration: a drawn scene from one style into another, through the embedded host, ``python3 dev.py run``.

The scene is drawn as a mosaic, inverted with the checkpoint of that style and redrawn by the checkpoint of the ink
style. `out/sheet.png` shows the picture, its reconstruction and the alternatives beside Ditail's.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from PIL import Image

from demo.assemble import assemble
from demo.parts import SHIPPED
from demo.styles import draw
from demo.train.unet import SIDE
from demo.world import caption, make_scene
from ditail_ext.standalone.cli import main as ditail

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out"
SOURCE, TARGET = "mosaic", "ink"
SCENE = 20_015  # a held-out scene: no checkpoint has been trained on it


def checkpoint(name: str) -> Path:
    """The assembled checkpoint of a style (or the base), built from the shipped parts where they are newer."""
    path = OUT / "checkpoints" / f"ditail-demo-{name}.safetensors"
    shipped = max(part.stat().st_mtime for part in SHIPPED.glob("*.safetensors"))
    if not path.is_file() or path.stat().st_mtime < shipped:
        logging.info("Assembling the demonstration's checkpoints in %s.", path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        assemble(SHIPPED, path.parent)
    return path


def main() -> int:
    """Draw the picture, build the checkpoints if need be and run the main job."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    OUT.mkdir(exist_ok=True)
    scene = make_scene(SCENE)
    Image.fromarray(draw(scene, SOURCE, SIDE)).save(OUT / "picture.png")
    return ditail(
        [
            str(OUT / "picture.png"),
            f"--source={checkpoint(SOURCE)}",
            f"--target={checkpoint(TARGET)}",
            f"--prompt={caption(scene)}",
            "--steps=20",
            "--cfg-scale=5",
            "--size=0",
            f"--output={OUT / 'ditail.png'}",
            f"--sheet={OUT / 'sheet.png'}",
            "--threads=1",  # two take 0.8 of the time on two idle cores, and over 20 times it beside other work
            "--overwrite",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
