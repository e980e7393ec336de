"""The demonstration: a bundled picture through the embedded host, ``python3 dev.py run``.

Until trained demonstration checkpoints are shipped, small random ones are made: everything runs for real, but what
they draw shows nothing.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from ditail_ext.standalone.cli import main as ditail
from ditail_ext.standalone.small import TEXT_FOLDER, write_small_checkpoint, write_text_folder

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out"
PICTURE = ROOT / "demo" / "scene.png"
PROMPT = "a large blue star above a small yellow cross on pink"


def checkpoints(folder: Path) -> tuple[Path, Path]:
    """Source and target checkpoint, made once."""
    source, target = folder / "source.safetensors", folder / "target.safetensors"
    if not (source.is_file() and target.is_file()):
        logging.info("Making two small random checkpoints in %s.", folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text_folder(folder / TEXT_FOLDER)
        write_small_checkpoint(source, seed=1)
        write_small_checkpoint(target, seed=2)
    return source, target


def main() -> int:
    """Make the checkpoints if need be and run the main job."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    source, target = checkpoints(OUT / "checkpoints")
    return ditail(
        [
            str(PICTURE),
            f"--source={source}",
            f"--target={target}",
            f"--prompt={PROMPT}",
            "--negative-prompt=blurry",
            "--steps=20",
            "--size=256",
            f"--output={OUT / 'ditail.png'}",
            f"--sheet={OUT / 'sheet.png'}",
            "--threads=2",  # small networks gain nothing from more, and lose much on a busy machine
            "--overwrite",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
