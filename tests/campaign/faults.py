"""Faults at every place where they can happen: each is injected, and the host must be as it was.

A fault ends a request with a sentence, or, where what fails is optional, in the very picture that is made without it;
never in an ordinary picture. Afterwards state, an ordinary picture and the next picture of Ditail's are as before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.client import Answer, alike
from harness.server import WebUI
from harness.state import options

from . import meanwhile
from .judge import NOTHING, compare, state
from .places import NEEDED, OPTIONAL, REQUESTS, SMALL, STOPPED, Asked
from .progress import Progress

logger = logging.getLogger("campaign")

CALLS = (1, 2, 3, 4)
"""UNet calls at which a fault is injected: the inversion's first, others of it, and of the sampling."""

EXCEPTIONS = ("RuntimeError", "OutOfMemoryError", "ValueError", "KeyError")
STOPS = ("interrupt", "skip", "stop_generating")
OF_DISKS = ("disk full", "read-only", "locked", "damaged")
Request = Callable[[WebUI, int], tuple[Answer, bool]]
"""Of a number, by which requests differ: gives the answer, and whether what was to happen has happened."""

LOADS = ("load", "read_state_dict", "take", "_weights_of", "_move_to_device", "send_model", "SecondModel.__init__")
"""Parts of the names of places that are come to where a file is read, or a model moved."""


@dataclass(frozen=True)
class Fault:
    """One of them.

    Attributes:
        name: what happens.
        request: makes the request in which it happens, with whatever makes it happen.
        optional: what fails is not needed for the picture.
        stop: a button is pressed.
        fresh: nothing may be kept of earlier requests, models included.
    """

    name: str
    request: Request
    optional: bool = False
    stop: bool = False
    fresh: bool = False


def faults() -> Iterator[Fault]:
    """All of them."""
    for at in CALLS:
        for kind in EXCEPTIONS:
            for asked in ("img2img", "generated"):
                yield Fault(f"{kind} in UNet call {at} of {asked}", _asked(asked, throw_at=at, throw=kind))
        for stop in STOPS:
            yield Fault(f"{stop} in UNet call {at}", _asked("img2img", stop_at=at, stop=stop), stop=True)
    for asked, place, optional in _places():
        for kind in _kinds(asked, place):
            yield Fault(
                f"{kind} in {place} of {asked}",
                _asked(asked, break_in=place, break_with=kind),
                optional=optional,
                fresh=optional or any(word in place for word in LOADS),
            )
    for place in STOPPED:
        for stop in STOPS:
            request = _asked("img2img", break_in=place, break_with=stop)
            yield Fault(f"{stop} in {place}", request, stop=True, fresh=any(word in place for word in LOADS))
    for name, request in meanwhile.CASES.items():
        stop = name in meanwhile.STOPPING
        yield Fault(name, lambda webui, _, request=request: (request(webui), True), stop=stop, fresh=True)


def _places() -> Iterator[tuple[str, str, bool]]:
    for optional, places in ((False, NEEDED), (True, OPTIONAL)):
        for asked, those in places.items():
            for place in those:
                yield asked, place, optional


def _kinds(asked: str, place: str) -> tuple[str, ...]:
    if asked == "disk":
        return OF_DISKS
    if "recordings" in place:  # of what is kept and recorded ahead only memory may be short
        return ("OutOfMemoryError", "MemoryError")
    kinds = ("RuntimeError", "OutOfMemoryError")
    return (*kinds, "gone") if any(word in place for word in LOADS) else kinds


def _asked(name: str, **switches: object) -> Request:
    def request(webui: WebUI, number: int) -> tuple[Answer, bool]:
        asked = REQUESTS[name].varied(number)
        with options(webui, asked.options):
            webui.probe.reset(**switches)
            answer = _send(webui, asked)
            reached = webui.probe.reached() if "break_in" in switches else webui.probe.count()
            webui.probe.reset()
            return answer, reached >= int(str(switches.get("throw_at") or switches.get("stop_at") or 1))

    return request


def _send(webui: WebUI, asked: Asked) -> Answer:
    answer: Answer = getattr(webui, asked.tab)(asked.ditail, **{**SMALL, **asked.request})
    return answer


def run(webui: WebUI, progress: Progress, every: int = 1) -> None:
    """All faults, or each so many, but for those that are done."""
    before, expected = state(webui), {name: _fresh(webui, asked) for name, asked in REQUESTS.items()}
    assert _send(webui, REQUESTS["img2img"]).pixels == expected["img2img"]  # it is kept from now on
    for number, fault in enumerate(faults()):
        if number % every or fault.name in progress:
            continue
        if fault.fresh:
            webui.post("/ditail/v1/cache/clear")
        answer, happened = fault.request(webui, 0 if fault.fresh else number)
        progress.findings.tried["faults"] += 1
        logger.info("%s: %s %s", fault.name, answer.status, answer.sentence[:80] if answer.status != 200 else "")
        wrong = "it never happened" if not happened else _wrong(fault, answer, expected)
        if wrong:
            progress.findings.add(wrong, (fault.name, answer.status, answer.sentence[:200]))
        _see_that_all_is_well(webui, progress, fault.name, before, expected["img2img"])
        progress.add(fault.name)


def _fresh(webui: WebUI, asked: Asked) -> list[bytes]:
    webui.post("/ditail/v1/cache/clear")
    with options(webui, asked.options):
        answer = _send(webui, asked)
    assert answer.status == 200, answer.sentence
    return answer.pixels


def _wrong(fault: Fault, answer: Answer, expected: dict[str, list[bytes]]) -> str | None:
    """What is wrong with the answer to a request in which a fault has happened."""
    if answer.status != 200:
        if fault.optional:
            return "what is optional ends a request"
        if fault.stop and answer.status >= 500:
            return "a button ends a request as a server's error"
        return None if answer.sentence.strip() else "a fault without a sentence"
    if fault.optional and not any(alike(answer.pixels, pixels) for pixels in expected.values()):
        return "without what is optional it is another picture"
    if fault.stop and not answer.pictures:
        return None
    if not all("Ditail version" in text or NOTHING in text for text in answer.info["infotexts"][:1]):
        return "a silent plain picture"
    return None


def _see_that_all_is_well(
    webui: WebUI, progress: Progress, name: str, before: dict[str, object], expected: list[bytes]
) -> None:
    after = state(webui)
    compare({**before, "object": 0}, {**after, "object": 0}, progress.findings, name)
    again = _send(webui, REQUESTS["img2img"])
    if again.status != 200:
        progress.findings.add("the next request fails", (name, again.sentence))
    elif not alike(again.pixels, expected):
        progress.findings.add("the next picture is another", name)
