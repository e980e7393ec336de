"""New pictures from one source, one after the other: whole requests, the checkpoints' loads included.

    python -m bench.webui.in_a_row --webui DIR [--before DIR] [--authors DIR] [--folder DIR] [--pictures 10]
                                   [--size 256] [--steps 5] [--gpu]

One WebUI after the other on one machine, each started for its turn and warmed up by two plain pictures: plain img2img,
this extension, an earlier version of it (``--before``, a checkout), the authors' (``--authors``, a checkout of
MAPS-research/sd-webui-ditail). Every picture is another scene with another seed and prompt, so nothing is kept but
the source. The checkpoints are random files of SD1.5's size, written once: they compute as long as trained ones.

Writes ``bench/results/webui-in-a-row-DEVICE.csv``.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.full_size import write_checkpoint
from bench.webui.server import Server, extension_of
from bench.webui.speed import DECODER, SCENE, Question

ROOT = Path(__file__).parents[2]
TARGET, SOURCE = "target.safetensors", "source.safetensors"
HEADER = ("mode", "pictures", "seconds of all", "first", "median of the others", "ratio to plain", "loads")

Ask = Callable[[Question, int], Mapping[str, Any]]


def modes(args: argparse.Namespace, folder: Path) -> dict[str, tuple[dict[str, Path], Ask, str]]:
    """By name: the extensions of its WebUI, its requests, and what their infotext holds."""
    ditail = lambda question, seed: question.ditail(seed)  # noqa: E731
    found: dict[str, tuple[dict[str, Path], Ask, str]] = {
        "plain img2img": ({}, lambda question, seed: question.plain(seed), ""),
        "Ditail": ({"ditail": ROOT}, ditail, "Ditail seconds"),
    }
    if args.before is not None:
        found["Ditail before"] = ({"ditail": args.before}, ditail, "Ditail")
    if args.authors is not None:
        theirs = {"authors": args.authors, "decoder": extension_of(folder / "decoder", DECODER)}
        found["authors' extension"] = (theirs, lambda question, seed: question.authors(seed), "ditail args")
    return found


def in_a_row(server: Server, question: Question, pictures: int, ask: Ask, marker: str) -> tuple[list[float], int]:
    """The seconds of each request, and the loads of all.

    Raises:
        RuntimeError: a picture's infotext lacks the marker, or a callback failed, which the host only logs.
    """
    for seed in (1, 2):
        server.post("/sdapi/v1/img2img", question.plain(seed))
    before, seconds = loads(server), []
    for index in range(pictures):
        started = time.perf_counter()
        answer = server.post("/sdapi/v1/img2img", ask(replace(question, scene=SCENE + 1 + index), 10 + index))
        seconds.append(time.perf_counter() - started)
        if marker not in answer["info"] or "Traceback" in server.log():
            raise RuntimeError(f"the picture was made without it, or not as meant.\n{server.log()[-3000:]}")
    return seconds, loads(server) - before


def loads(server: Server) -> int:
    """How often weights were read of a file so far, by what the WebUI says in its console."""
    return server.log().count("Loading weights [")


def row(mode: str, seconds: list[float], number_of_loads: int, plain: float) -> tuple[str, ...]:
    """One line of the table.

    Args:
        mode: its name.
        seconds: of each request in turn.
        number_of_loads: of all.
        plain: seconds of all plain pictures.
    """
    rest = statistics.median(seconds[1:])
    figures = (f"{sum(seconds):.1f}", f"{seconds[0]:.1f}", f"{rest:.1f}", f"{sum(seconds) / plain:.2f}")
    return (mode, str(len(seconds)), *figures, str(number_of_loads))


def main() -> None:
    """Measure, print, write."""
    args = _arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate((SOURCE, TARGET), start=1):
        write_checkpoint(args.folder / name, seed)
    question = Question(SOURCE, args.size, args.steps)
    where = {"webui": args.webui, "checkpoints": args.folder, "target": TARGET, "gpu": args.gpu}
    rows: list[tuple[str, ...]] = []
    plain = 0.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for mode, (extensions, ask, marker) in modes(args, folder).items():
            with Server(extensions=extensions, **where) as server:
                seconds, number_of_loads = in_a_row(server, question, args.pictures, ask, marker)
            plain = plain or sum(seconds)
            rows.append(row(mode, seconds, number_of_loads, plain))
            print("|", " | ".join(rows[-1]), "|", flush=True)
    results = ROOT / "bench" / "results" / f"webui-in-a-row-{'gpu' if args.gpu else 'cpu'}.csv"
    with results.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--webui", type=Path, required=True, help="an installed WebUI 1.10 with its own venv")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version of this extension")
    parser.add_argument("--authors", type=Path, help="a checkout of MAPS-research/sd-webui-ditail")
    parser.add_argument("--folder", type=Path, default=Path("out/full-size"), help="where the checkpoints are written")
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--gpu", action="store_true", help="compute on the GPU in half precision")
    return parser.parse_args()


if __name__ == "__main__":
    main()
