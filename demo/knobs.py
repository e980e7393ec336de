"""What each setting does, in small pictures: one scene with three values of it, ``python -m demo.knobs``.

They are the pictures in the tooltips of the WebUI's panel. A strip has one picture a value, the value below it.
It is README's scene, in which the target alone draws a thing too many: one sees where the feature holds the layout.
Of the attention, the inversion rule and its refinements small pictures of this scene show nothing that helps to
choose, so they have none.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file, save_file

from demo.run import SCENE, SOURCE, TARGET, checkpoint
from demo.styles import draw
from demo.train.unet import SIDE
from demo.world import caption, make_scene
from ditail_ext.settings import MASK_REGION, SAME_AS_TARGET, Settings
from ditail_ext.standalone.job import Job, run
from ditail_ext.standalone.model import Compute
from ditail_ext.standalone.parameters import Sampling

OUT = Path(__file__).parents[1] / "ditail_ext" / "webui" / "panel" / "knobs"
CELL, CAPTION = 112, 18
OTHER = "shaded"
FEATURE = {"attention_ratio": 0.0, "feature_ratio": 1.0}

KNOBS: Mapping[str, tuple[Sequence[object], Mapping[str, object]]] = {
    "source_checkpoint": ((SAME_AS_TARGET, "the right one"), {}),
    "positive_scale": ((0.0, 3.0, 9.0), {}),
    "negative_scale": ((0.0, 0.5, 6.0), {}),
    "feature_ratio": ((0.0, 0.4, 0.8), {}),
    "layer_profile": (("default", "strong", "full"), {"feature_ratio": 1.0, "attention_ratio": 1.0}),
    "feature_start": ((0.0, 0.3, 0.6), FEATURE),
    "feature_weight": ((0.0, 0.5, 1.0), FEATURE),
    "region": (("everywhere", "left half"), FEATURE),
    "mix_weight": ((0.0, 0.5, 1.0), {}),
}
"""By setting: the values shown, and what else is set for it."""


class Studio:
    """Makes the pictures of one scene."""

    def __init__(self, folder: Path, scene: int) -> None:
        self._folder, self._scene = folder, make_scene(scene)
        Image.fromarray(draw(self._scene, SOURCE, SIDE)).save(folder / "picture.png")
        mask = Image.new("L", (SIDE, SIDE))
        mask.paste(255, (0, 0, SIDE // 2, SIDE))
        mask.save(folder / "mask.png")

    def picture(self, knob: str, value: object, others: Mapping[str, object]) -> Image.Image:
        """The scene redrawn with one value of a setting."""
        settings = dict(others)
        source, target, mask = checkpoint(SOURCE), checkpoint(TARGET), None
        if knob == "source_checkpoint":
            source = checkpoint(TARGET) if value == SAME_AS_TARGET else source
        elif knob == "mix_weight":
            target = self._mixed(float(str(value)))
        elif knob == "region":
            mask = self._folder / "mask.png" if value != "everywhere" else None
            settings["region"] = MASK_REGION if mask else value
        else:
            settings[knob] = value
        job = Job(
            picture=self._folder / "picture.png",
            target=target,
            source=source,
            sampling=Sampling(caption(self._scene), "", steps=20, cfg_scale=5.0),
            settings=Settings.from_mapping(settings),
            mask=mask,
            shorter_side=0,
        )
        return run(job, Compute.choose("cpu", "fp32")).picture

    def _mixed(self, share: float) -> Path:
        """A checkpoint between two, as the WebUI's side mixes its target."""
        path = self._folder / f"mixed-{share}.safetensors"
        first, second = load_file(str(checkpoint(TARGET))), load_file(str(checkpoint(OTHER)))
        save_file({name: torch.lerp(one.float(), second[name].float(), share) for name, one in first.items()}, path)
        beside = checkpoint(TARGET).with_suffix(".yaml")
        path.with_suffix(".yaml").write_bytes(beside.read_bytes())
        return path


def strip(pictures: Sequence[Image.Image], values: Sequence[object]) -> Image.Image:
    """Small pictures side by side, the value below each."""
    made = Image.new("RGB", (len(pictures) * (CELL + 4) - 4, CELL + CAPTION), "white")
    pen, font = ImageDraw.Draw(made), ImageFont.load_default()
    for index, (picture, value) in enumerate(zip(pictures, values, strict=True)):
        left = index * (CELL + 4)
        made.paste(picture.resize((CELL, CELL), Image.Resampling.LANCZOS), (left, 0))
        text = f"{value:g}" if isinstance(value, float) else str(value)
        pen.text((left + (CELL - pen.textlength(text, font)) // 2, CELL + 4), text, fill=(40, 40, 40), font=font)
    return made


def main() -> None:
    """Write the strips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--scene", type=int, default=SCENE)
    parser.add_argument("--knobs", nargs="*", choices=list(KNOBS), default=list(KNOBS))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(Path(folder), options.scene)
        for knob in options.knobs:
            values, others = KNOBS[knob]
            pictures = [studio.picture(knob, value, others) for value in values]
            strip(pictures, values).save(options.out / f"{knob}.jpg", quality=82, optimize=True)
            logging.info("%s: done", knob)


if __name__ == "__main__":
    main()
