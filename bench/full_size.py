"""Seconds a step and peak memory at SD1.5's full size, on the CPU or a GPU.

    python -m bench.full_size PHOTO [--steps 4] [--folder DIR]

Writes two random full-size checkpoints (fp16, 2.1 GB each) into DIR once, and runs the embedded host's job on the
photo at 512x512. Random weights compute as long as trained ones; the picture shows nothing. Prints a table and
writes it to ``bench/results/full_size.csv``.
"""

from __future__ import annotations

import argparse
import csv
import platform
import resource
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from ditail_ext.core import Injection
from ditail_ext.settings import Settings
from ditail_ext.standalone import job as host
from ditail_ext.standalone import target
from ditail_ext.standalone.architecture import SD1_CONFIG, build_unet, build_vae
from ditail_ext.standalone.checkpoint import TEXT, UNET, VAE
from ditail_ext.standalone.model import Compute, Model
from ditail_ext.standalone.parameters import Sampling
from ditail_ext.standalone.text import SD1_TEXT_CONFIG

RESULTS = Path(__file__).parent / "results" / "full_size.csv"


def write_checkpoint(path: Path, seed: int) -> Path:
    """A random checkpoint of SD1.5's sizes in fp16, unless it is there."""
    if path.is_file():
        return path
    torch.manual_seed(seed)
    modules: tuple[tuple[str, nn.Module], ...] = (
        (UNET, build_unet(SD1_CONFIG)),
        (VAE, build_vae(SD1_CONFIG)),
        (TEXT, CLIPTextModel(CLIPTextConfig(**SD1_TEXT_CONFIG))),
    )
    for _, module in modules:
        for parameter in module.parameters():
            if parameter.ndim >= 2 and not parameter.any():  # ldm starts its last layers at zero
                nn.init.normal_(parameter, std=0.3 * parameter[0].numel() ** -0.5)
        for layer in module.modules():
            if isinstance(layer, nn.LayerNorm):  # the WebUI's emphasis divides by an encoding's mean
                nn.init.constant_(layer.bias, 0.1)
    tensors = {
        f"{prefix}{name}": value.half().contiguous()
        for prefix, module in modules
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    }
    save_file(tensors, path)
    return path


class Stopwatch:
    """Seconds by part, and how often each ran."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._device = device

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time added to a part's."""

        def run(*args: Any, **kwargs: Any) -> Any:
            started = self._now()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part] = self.seconds.get(part, 0.0) + self._now() - started
                self.calls[part] = self.calls.get(part, 0) + 1

        return run

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


@contextmanager
def measured(watch: Stopwatch) -> Any:
    """Time the parts of a job while it runs."""
    with (
        mock.patch.object(Injection, "record", watch.timed("record", Injection.record)),
        mock.patch.object(host, "invert", watch.timed("invert", host.invert)),
        mock.patch.object(target, "sample", watch.timed("sample", target.sample)),
        mock.patch.object(Model, "encode_picture", watch.timed("encode", Model.encode_picture)),
        mock.patch.object(Model, "decode_picture", watch.timed("decode", Model.decode_picture)),
    ):
        yield


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("out/full-size"))
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    source = write_checkpoint(args.folder / "source.safetensors", 1)
    checkpoint = write_checkpoint(args.folder / "target.safetensors", 2)
    compute = Compute.choose(args.device, "auto")
    watch = Stopwatch(compute.device)
    sampling = Sampling("a portrait photo", "blurry", args.steps, 7.5)
    job = host.Job(args.photo, checkpoint, source, sampling, Settings())
    started = time.perf_counter()
    with measured(watch):
        host.run(job, compute)
    total = time.perf_counter() - started
    rows = report(watch, total, args.steps, compute)
    for name, value in rows:
        print(f"| {name} | {value} |")
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("figure", "value"), *rows])


def report(watch: Stopwatch, total: float, steps: int, compute: Compute) -> list[tuple[str, str]]:
    """The table's rows."""
    gpu = compute.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    machine = torch.cuda.get_device_name() if gpu else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    record, sample = watch.seconds["record"], watch.seconds["sample"]
    return [
        ("machine", machine),
        ("torch, precision", f"{torch.__version__}, {compute.dtype}"),
        ("steps, size", f"{steps}, 512x512"),
        ("inversion, seconds a step", f"{watch.seconds['invert'] / steps:.2f}"),
        ("sampling, seconds a step", f"{sample / steps:.2f}"),
        ("record pass, share of sampling", f"{record / sample:.1%}"),
        ("encode + decode, seconds", f"{watch.seconds['encode'] + watch.seconds['decode']:.1f}"),
        ("whole job with loading, seconds", f"{total:.0f}"),
        ("peak memory, GiB", f"{peak / 2**30:.2f}"),
    ]


if __name__ == "__main__":
    main()
