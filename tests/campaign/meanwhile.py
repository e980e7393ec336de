"""Faults that others make while a request runs, or have made before: users, other clients, files that change."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import requests
from harness.client import Answer
from harness.server import WebUI
from harness.state import options

from .places import BETA, SMALL

Act = Callable[[WebUI], object]

PASSING = "passing.safetensors"
"""A source that may be replaced."""

SLOWLY = 0.15
"""Seconds before each UNet call, so that there is time to do something."""

STAGES = {"inversion": 2, "sampling": 4}
"""UNet calls by when something is done."""


def _while_it_runs(at: int, act: Act, ditail: dict[str, object] | None = None) -> Callable[[WebUI], Answer]:
    """A request during which something is done, once so many UNet calls were made."""

    def request(webui: WebUI) -> Answer:
        answers: list[Answer] = []
        webui.probe.reset(delay=SLOWLY)
        asked = ditail or BETA
        thread = threading.Thread(target=lambda: answers.append(_sent(webui, asked)))
        thread.start()
        limit = time.monotonic() + 120
        while thread.is_alive() and webui.probe.count() < at and time.monotonic() < limit:
            time.sleep(0.02)
        act(webui)
        thread.join()
        return answers[0]

    return request


def _sent(webui: WebUI, ditail: dict[str, object]) -> Answer:
    try:
        return webui.img2img(ditail, **SMALL)
    except requests.ConnectionError as error:
        return Answer(0, f"The WebUI has closed the connection ({type(error).__name__}).")


@contextmanager
def passing(webui: WebUI) -> Iterator[Path]:
    """A copy of a source, known to the host, for a while."""
    path = webui.checkpoints / PASSING
    path.unlink(missing_ok=True)
    shutil.copyfile(webui.checkpoints / "beta.safetensors", path)
    shutil.copyfile(webui.checkpoints / "beta.yaml", path.with_suffix(".yaml"))
    try:
        webui.post("/sdapi/v1/refresh-checkpoints")
        yield path
    finally:
        path.unlink(missing_ok=True)
        path.with_suffix(".yaml").unlink()
        webui.post("/sdapi/v1/refresh-checkpoints")


def _file(content: bytes | Path | None, at: int) -> Callable[[WebUI], Answer]:
    """A source's file that is gone, or holds something else: before the request (0), or while it runs."""

    def request(webui: WebUI) -> Answer:
        with passing(webui) as path:

            def change(_webui: WebUI) -> None:
                path.unlink()
                if isinstance(content, Path):
                    shutil.copyfile(webui.checkpoints / content, path)
                elif content is not None:
                    path.write_bytes(content)

            if at:
                return _while_it_runs(at, change, {"source_checkpoint": PASSING})(webui)
            change(webui)
            return _sent(webui, {"source_checkpoint": PASSING})

    return request


def _choosing(name: str, at: int) -> Callable[[WebUI], Answer]:
    """The user chooses another checkpoint while the request runs, and the old one again when it is over."""

    def request(webui: WebUI) -> Answer:
        chosen = threading.Thread(target=lambda: webui.post("/sdapi/v1/options", {"sd_model_checkpoint": name}))
        answer = _while_it_runs(at, lambda _: chosen.start())(webui)
        chosen.join()
        webui.post("/sdapi/v1/options", {"sd_model_checkpoint": "alpha.safetensors"})
        return answer

    return request


def _other_target(webui: WebUI) -> Answer:
    _sent(webui, BETA)
    webui.post("/sdapi/v1/options", {"sd_model_checkpoint": "beta.safetensors"})
    answer = _sent(webui, {"source_checkpoint": "alpha.safetensors"})
    webui.post("/sdapi/v1/options", {"sd_model_checkpoint": "alpha.safetensors"})
    return answer


def _disk(damage: Callable[[Path], object]) -> Callable[[WebUI], Answer]:
    """The index of the inversions on disk is damaged between two requests."""

    def request(webui: WebUI) -> Answer:
        with options(webui, {"ditail_disk_cache_mb": 64}):
            _sent(webui, BETA)
            indices = list((webui.data / "cache" / "ditail").rglob("cache.db"))
            assert indices, "the inversion was to be kept on disk"
            for index in indices:
                damage(index)
            return _sent(webui, {**BETA, "positive_scale": 2.0})

    return request


def _locked(webui: WebUI) -> Answer:
    """Another process holds the index."""
    with options(webui, {"ditail_disk_cache_mb": 64}):
        _sent(webui, BETA)
        (index,) = (webui.data / "cache" / "ditail").rglob("cache.db")
        with closing(sqlite3.connect(index, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            try:
                return _sent(webui, {**BETA, "positive_scale": 2.0})
            finally:
                other.execute("ROLLBACK")


def _reloaded(at: int) -> Callable[[WebUI], Answer]:
    """ "Reload UI", while nothing runs (0) or while the request does."""

    def reload(webui: WebUI) -> None:
        webui.post("/probe/reload")

    def request(webui: WebUI) -> Answer:
        built = webui.starts
        if at:
            answer = _while_it_runs(at, reload)(webui)
        else:
            reload(webui)
            answer = Answer(0, "Nothing was asked.")
        limit = time.monotonic() + 180
        while webui.starts == built and time.monotonic() < limit:
            time.sleep(0.2)
        assert webui.starts > built, "the page was to be built again"
        return answer

    return request


def _other_client(ditail: dict[str, object] | None) -> Act:
    """Another client asks for a picture meanwhile, and waits for its turn and its answer."""
    return lambda webui: threading.Thread(target=lambda: webui.txt2img(ditail, **SMALL)).start()


CASES: dict[str, Callable[[WebUI], Answer]] = {
    **{
        f"the source's file {what}, {when}": _file(content, at)
        for when, at in {"before": 0, **{f"during {stage}": at for stage, at in STAGES.items()}}.items()
        for what, content in {
            "is gone": None,
            "is empty": b"",
            "is a web page": b"<html>" * 500,
            "is cut short": b"\x10\0\0\0\0\0\0\0{",
            "is another's": Path("delta.safetensors"),
        }.items()
    },
    **{
        f"{what} during {stage}": _while_it_runs(at, act)
        for stage, at in STAGES.items()
        for what, act in {
            "the caches are cleared": lambda webui: webui.post("/ditail/v1/cache/clear"),
            "the lists are read anew": lambda webui: webui.post("/sdapi/v1/refresh-checkpoints"),
            "another client asks for an ordinary picture": _other_client(None),
            "another client asks for Ditail": _other_client({"source_checkpoint": "delta.safetensors"}),
        }.items()
    },
    **{
        f"the user chooses {what} during {stage}": _choosing(name, at)
        for stage, at in STAGES.items()
        for what, name in {
            "the source as the target": "beta.safetensors",
            "another target": "gamma.safetensors",
        }.items()
    },
    "the user has chosen the source as the target in between": _other_target,
    "the index on disk is no database": _disk(lambda index: index.write_bytes(b"no database" * 200)),
    "the index on disk is empty": _disk(lambda index: index.write_bytes(b"")),
    "the index on disk is gone": _disk(lambda index: index.unlink()),
    "the folder on disk is gone": _disk(lambda index: shutil.rmtree(index.parent)),
    "the index on disk is locked by another process": _locked,
    "Reload UI": _reloaded(0),
    "Reload UI during the inversion": _reloaded(2),
}
"""By what happens: makes the request in which it does."""

STOPPING = ("Reload UI during the inversion",)
"""Those that press Interrupt, too."""
