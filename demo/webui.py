"""The shipped checkpoints for a WebUI, and a picture to begin with: `python -m demo.webui FOLDER`.

Run it with the WebUI's own Python. It writes into the WebUI's `models/Stable-diffusion/ditail-demo` and `models/Lora`,
and `ditail-demo-picture.png` into the current folder: a scene in the *shaded* style that says, as the WebUI's own
pictures do, which checkpoint and prompt it belongs to.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from demo.assemble import assemble
from demo.parts import SHIPPED
from demo.styles import draw
from demo.train.unet import SIDE
from demo.world import caption, make_scene

log = logging.getLogger(__name__)

FOLDER = "ditail-demo"
STYLE = "shaded"
SCENE = 20_025  # held out: no checkpoint has been trained on it


def main() -> None:
    """Put everything in its place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("webui", type=Path, help="the WebUI's folder, with models/ in it")
    parser.add_argument("--merges", type=Path, help="CLIP's bpe_simple_vocab_16e6.txt.gz, without the clip package")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    models = options.webui / "models"
    if not models.is_dir():
        parser.error(f"there is no {models}; give the WebUI's folder.")
    put(models, options.merges)
    write_picture(Path("ditail-demo-picture.png"))
    log.info("Refresh the list of checkpoints in the WebUI.")


def put(models: Path, merges: Path | None = None) -> None:
    """Build the checkpoints and the LoRA where a WebUI looks for them."""
    checkpoints, loras = models / "Stable-diffusion" / FOLDER, models / "Lora"
    for folder in (checkpoints, loras):
        folder.mkdir(parents=True, exist_ok=True)
    assemble(SHIPPED, checkpoints, merges)
    for lora in checkpoints.glob("*-lora.safetensors"):
        lora.replace(loras / lora.name)


def write_picture(file: Path) -> None:
    """A scene with its parameters."""
    scene = make_scene(SCENE)
    said = PngInfo()
    size = f"Steps: 20, Sampler: DDIM, CFG scale: 5, Size: {SIDE}x{SIDE}, Model: {FOLDER}-{STYLE}"
    said.add_text("parameters", f"{caption(scene)}\n{size}")
    Image.fromarray(draw(scene, STYLE, SIDE)).save(file, pnginfo=said)
    log.info("%s: %s", file, caption(scene))


if __name__ == "__main__":
    main()
