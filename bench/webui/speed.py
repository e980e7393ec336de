"""A real WebUI through its HTTP API: plain img2img, this extension, the authors' extension, in turn in one run.

    python -m bench.webui.speed --webui DIR --checkpoints DIR [--authors DIR] [--source NAME --target NAME]
                                [--size 512] [--steps 50] [--rounds 5] [--gpu] [--label TEXT]

Two WebUIs run side by side and take turns: one with this extension, one with the authors' (a checkout of
MAPS-research/sd-webui-ditail, which is not part of this repository). A generation's seconds are those of the whole
HTTP request, checkpoint loads included; each round's ratios are to plain img2img of the same round in the same WebUI,
at denoising strength 1. The *first* generation of a round finds nothing kept; the *second* has another prompt, seed
and CFG scale. *Trajectory kept* is a second one with the memory for recorded features set to 0.

The authors' extension takes its picture from the panel as a PIL image and knows nothing of the API's base64: the bench
lays a script beside it that decodes the picture, and sets the image CFG scale to the CFG scale, as their own txt2img
path does, without which their source rows are not computed. Writes ``bench/results/webui-speed-DEVICE.csv``.
"""

from __future__ import annotations

import argparse
import base64
import csv
import io
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from bench.webui.server import Server, extension_of
from demo.styles import draw
from demo.world import make_scene

ROOT = Path(__file__).parents[2]
SCENE = 20_000
PLAIN, PLAIN_THERE = "plain img2img", "plain img2img beside the authors' extension"
FIRST, SECOND, TRAJECTORY = "Ditail, first", "Ditail, second", "Ditail, trajectory kept"
AUTHORS = "authors' extension"
DECODER = '''
"""Gives the authors' extension the picture that came through the API as the PIL image it expects."""

from modules import scripts
from modules.api.api import decode_base64_to_image


class Decoder(scripts.Script):
    def title(self):
        return "Picture decoder of a benchmark"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def before_process(self, p, *args):
        for script in p.scripts.alwayson_scripts:
            if script.title() == "DiffusionCocktail" and isinstance(p.script_args[script.args_from], str):
                values = list(p.script_args)
                picture = decode_base64_to_image(values[script.args_from]).convert("RGB")
                values[script.args_from] = picture.resize((p.width, p.height))
                p.script_args = values
'''


@dataclass(frozen=True)
class Question:
    """What all generations have in common.

    Attributes:
        source: file name of the source checkpoint.
        size: of the pictures' sides, in pixels.
        steps: of the sampler.
        scene: number of the drawn picture that they begin with.
    """

    source: str
    size: int
    steps: int
    scene: int = SCENE

    def plain(self, seed: int) -> dict[str, Any]:
        """Img2img at full strength; prompt, seed and CFG scale change with the seed."""
        return {
            "init_images": [_picture(self.scene, self.size)],
            "prompt": f"a red circle and a blue square, number {seed}",
            "negative_prompt": "blurry",
            "denoising_strength": 1.0,
            "width": self.size,
            "height": self.size,
            "steps": self.steps,
            "sampler_name": "DDIM",
            "cfg_scale": 6.0 + seed % 3,
            "seed": seed,
        }

    def ditail(self, seed: int) -> dict[str, Any]:
        """With this extension; the inversion's prompts stay, so that it is the same one."""
        settings = {
            "source_checkpoint": self.source,
            "inversion_prompt": "a scene",
            "inversion_negative_prompt": "bad",
        }
        return self._with(seed, "Ditail", [settings])

    def authors(self, seed: int) -> dict[str, Any]:
        """With theirs, its panel's values."""
        state = {
            "src_model_name": self.source,
            "src_vae_name": "Automatic",
            "ditail_alpha": 3.0,
            "ditail_beta": 0.5,
            "inv_prompt": "a scene",
            "inv_negative_prompt": "bad",
            "conv_ratio": 0.8,
            "attn_ratio": 0.5,
        }
        asked = self._with(seed, "DiffusionCocktail", [_picture(self.scene, self.size), True, state])
        return {**asked, "image_cfg_scale": asked["cfg_scale"]}

    def _with(self, seed: int, script: str, args: list[Any]) -> dict[str, Any]:
        return {**self.plain(seed), "alwayson_scripts": {script: {"args": args}}}


@dataclass
class Times:
    """Seconds of every generation by mode, and this extension's own account of them."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    parts: dict[str, list[Mapping[str, float]]] = field(default_factory=dict)

    def take(self, server: Server, mode: str, asked: Mapping[str, Any], marker: str | None = None) -> None:
        """Generate, and keep the seconds.

        Args:
            server: which WebUI.
            mode: under which name.
            asked: the request.
            marker: what the infotext must hold: an extension that failed silently left an ordinary picture.

        Raises:
            RuntimeError: the marker is missing, the request failed, or a callback did (which the host only logs).
        """
        started = time.perf_counter()
        answer = server.post("/sdapi/v1/img2img", asked)
        self.seconds.setdefault(mode, []).append(time.perf_counter() - started)
        if marker is not None and (marker not in answer["info"] or "Traceback" in server.log()):
            raise RuntimeError(f"{mode}: the picture was made without it, or not as meant.\n{server.log()[-3000:]}")
        if marker == "Ditail seconds":
            self.parts.setdefault(mode, []).append(_parts(answer["info"]))


def one_round(ours: Server, theirs: Server | None, question: Question, number: int, times: Times) -> None:
    """Every mode once."""
    seeds = iter(range(10 * number, 10 * number + 10))
    times.take(ours, PLAIN, question.plain(next(seeds)))
    ours.post("/ditail/v1/cache/clear", {})
    times.take(ours, FIRST, question.ditail(next(seeds)), "Ditail seconds")
    times.take(ours, SECOND, question.ditail(next(seeds)), "Ditail seconds")
    ours.post("/sdapi/v1/options", {"ditail_features_mb": 0})
    times.take(ours, TRAJECTORY, question.ditail(next(seeds)), "Ditail seconds")
    ours.post("/sdapi/v1/options", {"ditail_features_mb": -1})
    if theirs is not None:
        times.take(theirs, PLAIN_THERE, question.plain(next(seeds)))
        times.take(theirs, AUTHORS, question.authors(next(seeds)), "ditail args")


def table(times: Times, label: str) -> list[tuple[str, ...]]:
    """Median seconds, ratios to the same round's plain img2img, and where the seconds went."""
    rows = []
    for mode, seconds in times.seconds.items():
        plain = times.seconds[PLAIN_THERE if mode in (AUTHORS, PLAIN_THERE) else PLAIN]
        ratios = [own / base for own, base in zip(seconds, plain, strict=True)]
        figures = statistics.median(ratios), min(ratios), max(ratios)
        parts = times.parts.get(mode, [{}])
        split = ", ".join(f"{name} {statistics.median([part[name] for part in parts]):.2f}" for name in parts[0])
        rows.append((label, mode, f"{statistics.median(seconds):.2f}", *(f"{ratio:.2f}" for ratio in figures), split))
    return rows


def _parts(info: str) -> Mapping[str, float]:
    return json.loads(info)["extra_generation_params"]["Ditail seconds"]


def _picture(scene: int, size: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(draw(make_scene(scene), "shaded", size)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def main() -> None:
    """Start both, take turns, print, write."""
    args = _arguments()
    known = sorted(path.name for path in args.checkpoints.glob("*.safetensors"))
    target, source = args.target or known[0], args.source or known[1]
    question, times = Question(source, args.size, args.steps), Times()
    where = {"webui": args.webui, "checkpoints": args.checkpoints, "target": target, "gpu": args.gpu}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(Server(extensions={"ditail": ROOT}, **where))
        theirs = None
        if args.authors is not None:
            both = {"authors": args.authors, "decoder": extension_of(folder / "decoder", DECODER)}
            theirs = stack.enter_context(Server(extensions=both, **where))
        one_round(ours, theirs, question, 0, Times())  # warms up
        for number in range(1, args.rounds + 1):
            one_round(ours, theirs, question, number, times)
            print(f"round {number} of {args.rounds}", flush=True)
    label = f"{args.size}x{args.size}, {args.steps} steps, {target} from {source}"
    label = f"{args.label}; {label}" if args.label else label
    rows = table(times, label)
    for row in rows:
        print("|", " | ".join(row[1:]), "|")
    results = ROOT / "bench" / "results" / f"webui-speed-{'gpu' if args.gpu else 'cpu'}.csv"
    with (args.output or results).open("w", newline="", encoding="utf-8") as file:
        header = ("run", "mode", "seconds", "median ratio", "least", "greatest", "seconds by part")
        csv.writer(file).writerows([header, *rows])


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--webui", type=Path, required=True, help="an installed WebUI 1.10 with its own venv")
    parser.add_argument("--checkpoints", type=Path, required=True, help="a folder of at least two checkpoints")
    parser.add_argument("--authors", type=Path, help="a checkout of MAPS-research/sd-webui-ditail")
    parser.add_argument("--source", help="file name; the second in the folder")
    parser.add_argument("--target", help="file name; the first in the folder")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gpu", action="store_true", help="the WebUIs compute on the GPU in half precision")
    parser.add_argument("--label", default="", help="the machine, for the table")
    parser.add_argument("--output", type=Path, help="the CSV file; bench/results/webui-speed-DEVICE.csv")
    return parser.parse_args()


if __name__ == "__main__":
    main()
