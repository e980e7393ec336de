"""Faults at every place where they can happen: each is injected, and the host must be as it was."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.client import Answer
from harness.server import WebUI

from .judge import Findings, compare, state

logger = logging.getLogger("campaign")

BETA = {"source_checkpoint": "beta.safetensors"}
CALLS = (1, 2, 4, 6, 9)
"""UNet calls at which a fault is injected: the inversion's first, others of it, and of the sampling."""

EXCEPTIONS = ("RuntimeError", "OutOfMemoryError", "ValueError", "KeyError")
STOPS = ("interrupt", "skip", "stop_generating")

Fault = tuple[str, Callable[[WebUI], Answer]]


def faults() -> Iterator[Fault]:
    """By name: what makes one request in which the fault happens."""
    for at in CALLS:
        for kind in EXCEPTIONS:
            for tab in ("img2img", "txt2img"):
                yield f"{kind} in UNet call {at} of {tab}", _switched(tab, throw_at=at, throw=kind)
        for stop in STOPS:
            yield f"{stop} in UNet call {at}", _switched("img2img", stop_at=at, stop=stop)
    for kind in ("RuntimeError", "OutOfMemoryError", "KeyError"):
        yield f"{kind} while the source is loaded", _switched("img2img", throw_load="beta.safetensors", throw=kind)
        yield f"{kind} while the mix is loaded", _mix(kind)
    for name, damage in (("gone", None), ("empty", b""), ("a web page", b"<html>" * 500)):
        yield f"source file {name}", _replaced_source(damage)
    yield "the user chooses another target in between", _other_target
    yield "the cache is a file where the folder should be", _damaged_disk


def run(webui: WebUI, findings: Findings, every: int = 1) -> None:
    """All faults, or each so many."""
    before = state(webui)
    for number, (name, request) in enumerate(faults()):
        if number % every:
            continue
        webui.post("/ditail/v1/cache/clear")
        webui.probe.reset()
        answer = request(webui)
        findings.tried["faults"] += 1
        logger.info("%s: %s %s", name, answer.status, answer.sentence[:80] if answer.status != 200 else "")
        if answer.status != 200 and not answer.sentence.strip():
            findings.add("a fault without a sentence", name)
        after = state(webui)
        compare({**before, "object": 0}, {**after, "object": 0}, findings, (name, answer.status))
        again = webui.img2img(BETA, width=128, height=64, steps=4)
        if again.status != 200:
            findings.add("the next request fails", (name, again.sentence))


def _switched(tab: str, **switches: object) -> Callable[[WebUI], Answer]:
    def request(webui: WebUI) -> Answer:
        webui.probe.reset(**switches)
        return getattr(webui, tab)(BETA, width=128, height=64, steps=4)

    return request


def _mix(kind: str) -> Callable[[WebUI], Answer]:
    def request(webui: WebUI) -> Answer:
        webui.probe.reset(throw_at=7, throw=kind)
        mixed = {**BETA, "mix_checkpoint": "delta.safetensors", "mix_weight": 0.5}
        return webui.img2img(mixed, width=128, height=64, steps=4)

    return request


def _replaced_source(content: bytes | None) -> Callable[[WebUI], Answer]:
    """A copy of a source that is known to the host, and then is not what it was."""

    def request(webui: WebUI) -> Answer:
        path = webui.checkpoints / "passing.safetensors"
        with _copied(webui, path.name):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            return webui.img2img({"source_checkpoint": path.name}, width=128, height=64, steps=4)

    return request


@contextmanager
def _copied(webui: WebUI, name: str) -> Iterator[None]:
    path = webui.checkpoints / name
    shutil.copyfile(webui.checkpoints / "beta.safetensors", path)
    shutil.copyfile(webui.checkpoints / "beta.yaml", path.with_suffix(".yaml"))
    try:
        webui.post("/sdapi/v1/refresh-checkpoints")
        yield
    finally:
        path.unlink(missing_ok=True)
        path.with_suffix(".yaml").unlink()
        webui.post("/sdapi/v1/refresh-checkpoints")


def _other_target(webui: WebUI) -> Answer:
    webui.img2img(BETA, width=128, height=64, steps=4)
    webui.post("/sdapi/v1/options", {"sd_model_checkpoint": "beta.safetensors"})
    answer = webui.img2img({"source_checkpoint": "alpha.safetensors"}, width=128, height=64, steps=4)
    webui.post("/sdapi/v1/options", {"sd_model_checkpoint": "alpha.safetensors"})
    return answer


def _damaged_disk(webui: WebUI) -> Answer:
    webui.post("/sdapi/v1/options", {"ditail_disk_cache_mb": 64})
    try:
        webui.img2img(BETA, width=128, height=64, steps=4)
        indices = list((webui.data / "cache" / "ditail").rglob("cache.db"))
        assert indices, "the inversion was to be kept on disk"
        for index in indices:
            index.write_bytes(b"no database" * 200)
        return webui.img2img({**BETA, "positive_scale": 2.0}, width=128, height=64, steps=4)
    finally:
        webui.post("/sdapi/v1/options", {"ditail_disk_cache_mb": 0})
