"""Loads, moves and memory of whole requests in a real WebUI with checkpoints of SD1.5's full size.

    python -m bench.webui.loads --webui DIR [--before DIR] [--folder DIR] [--size 256] [--steps 4] [--gpu]

One WebUI after the other on one machine: with this extension, its budget for waiting sources at off, automatic and
4 GiB, and, where ``--before`` names a checkout of an earlier version, with that. Each makes a plain img2img picture, a
first picture from a source, a second one from it, and that one again with another seed. The checkpoints are
random fp16 files of 2.1 GB, written once: they compute as long as trained ones, and their pictures show nothing.

Writes ``bench/results/webui-loads-DEVICE.csv``.
"""

from __future__ import annotations

import argparse
import base64
import csv
import io
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from bench.full_size import write_checkpoint
from bench.memory import Resident
from bench.webui.server import Server
from demo.styles import draw
from demo.world import make_scene

ROOT = Path(__file__).parents[2]
BUDGETS = {"off": 0, "auto": -1, "4 GiB": 4096}
"""Main memory for waiting sources, by the label in the table; megabytes."""
GIB = 2**30


def picture(scene: int, size: int) -> str:
    """A drawn scene as base64 of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(draw(make_scene(scene), "shaded", size)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def request(args: argparse.Namespace, scene: int, seed: int, source: str | None) -> dict[str, Any]:
    """One img2img request, with Ditail where there is a source."""
    asked = {
        "init_images": [picture(scene, args.size)],
        "prompt": "a red circle and a blue square",
        "denoising_strength": 1.0,
        "width": args.size,
        "height": args.size,
        "steps": args.steps,
        "sampler_name": "DDIM",
        "seed": seed,
    }
    if source is None:
        return asked
    return {**asked, "alwayson_scripts": {"Ditail": {"args": [{"source_checkpoint": source}]}}}


def measured(server: Server, memory: Resident, asked: Mapping[str, Any]) -> tuple[str, ...]:
    """Seconds of a request, its parts, and the highest and the last memory in GiB."""
    memory.restart()
    started = time.perf_counter()
    answer = server.post("/sdapi/v1/img2img", asked)
    seconds = time.perf_counter() - started
    parts = json.loads(answer["info"])["extra_generation_params"].get("Ditail seconds", {})
    split = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
    return f"{seconds:.1f}", split, f"{memory.highest() / GIB:.1f}", f"{memory.now() / GIB:.1f}"


def rounds(args: argparse.Namespace, server: Server, label: str) -> Iterator[tuple[str, ...]]:
    """The rows of one WebUI and one budget."""
    memory = Resident(server.pid)
    yield label, "plain img2img", *measured(server, memory, request(args, 20_000, 1, None))
    server.post("/ditail/v1/cache/clear", {})
    yield label, "first picture", *measured(server, memory, request(args, 20_000, 1, "source.safetensors"))
    yield label, "second picture", *measured(server, memory, request(args, 20_001, 1, "source.safetensors"))
    yield label, "second picture again", *measured(server, memory, request(args, 20_001, 2, "source.safetensors"))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--webui", type=Path, required=True, help="an installed WebUI 1.10 with its own venv")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version of this extension")
    parser.add_argument("--folder", type=Path, default=Path("out/full-size"), help="where the checkpoints are written")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--gpu", action="store_true", help="compute on the GPU in half precision")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("source", "target"), start=1):
        write_checkpoint(args.folder / f"{name}.safetensors", seed)
    versions = {"before": args.before} if args.before else {}
    rows = []
    for version, folder in {**versions, "": ROOT}.items():
        where = {"webui": args.webui, "checkpoints": args.folder, "target": "target.safetensors", "gpu": args.gpu}
        with Server(extensions={"ditail": folder}, **where) as server:
            server.post("/sdapi/v1/img2img", request(args, 20_000, 1, None))  # warms up
            for label, budget in {version: 0}.items() if version else BUDGETS.items():
                if not version:
                    server.post("/sdapi/v1/options", {"ditail_models_mb": budget})
                for row in rounds(args, server, label):
                    rows.append(row)
                    print("|", " | ".join(row), "|", flush=True)
    results = ROOT / "bench" / "results" / f"webui-loads-{'gpu' if args.gpu else 'cpu'}.csv"
    header = ("sources", "request", "seconds", "seconds by part", "highest GiB", "GiB afterwards")
    with results.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
