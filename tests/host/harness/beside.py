"""What is asked of each real extension: alone, beside Ditail, and after it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from .client import Answer, Client, circle, encode
from .neighbours import apart
from .probe import Records
from .server import WebUI
from .state import options, unchanged_host

DITAIL = {"inversion_prompt": "a circle"}
"""What the source is told is Ditail's own: some extensions rewrite the request's prompts."""

SOURCES = {
    "itself": {**DITAIL, "source_checkpoint": "same as target"},
    "beta": {**DITAIL, "source_checkpoint": "beta.safetensors"},
}
XL_SOURCES = SOURCES | {"beta": {**DITAIL, "source_checkpoint": "xl-beta.safetensors"}}
XL = "xl-alpha.safetensors"
"""The narrow SDXL checkpoint that is the target."""


@dataclass(frozen=True)
class Case:
    """A neighbour's request.

    Attributes:
        asked: what it is told, beside the ``base`` of a request without it.
        base: of the request with and without it.
        own_encoding: it changes how the picture is encoded, and so the inversion.
        target: the checkpoint.
    """

    asked: dict[str, Any]
    base: dict[str, Any] = field(default_factory=dict)
    own_encoding: bool = False
    target: str = "alpha.safetensors"


def script(name: str, *args: Any) -> dict[str, Any]:
    """Of a request: an always-on script with its arguments."""
    return {"alwayson_scripts": {name: {"args": list(args)}}}


AUTHORS = Case(
    script("DiffusionCocktail", encode(circle()), True, {"src_model_name": "alpha.safetensors"}),
    {"image_cfg_scale": 4.0},
)
"""The authors' own Ditail, which makes three rows of each picture, as an editing checkpoint does."""


def ask(client: Client, ditail: dict[str, Any] | None, *parts: dict[str, Any]) -> Answer:
    """An img2img request, put together, that finds nothing kept."""
    request: dict[str, Any] = {}
    for part in parts:
        request |= part
    client.post("/ditail/v1/cache/clear")
    return client.img2img(ditail, **request)


def settle(client: Client, case: Case) -> None:
    """The neighbour has loaded what it needs, and let go.

    What loads, and what img2img encodes with, are random numbers that follow from the request before.
    """
    ask(client, None, case.base, case.asked)
    ask(client, None, case.base)


def aimed(client: Client, target: str) -> AbstractContextManager[None]:
    """With a checkpoint as the host's option."""
    return options(client, {"sd_model_checkpoint": target})


def inverted(records: Records) -> list[bytes]:
    """What the source's UNet gave."""
    return [call.output.tobytes() for call in records.calls if not call.sampling and call.output is not None]


def recorded(records: Records) -> int:
    """Record passes: they are broken off, so they give nothing."""
    return sum(call.output is None for call in records.calls)


def both_effects_and_nothing_else(webui: WebUI, case: Case, ditail: dict[str, Any]) -> None:
    """Both are in the picture, the source computes as alone, and afterwards all is as before."""
    with aimed(webui, case.target):
        _both_effects_and_nothing_else(webui, case, ditail)


def _both_effects_and_nothing_else(webui: WebUI, case: Case, ditail: dict[str, Any]) -> None:
    settle(webui, case)
    plain, only = ask(webui, None, case.base), ask(webui, None, case.base, case.asked)
    ask(webui, None, case.base)  # what it leaves behind goes with its next request
    assert ask(webui, None, case.base).pixels == plain.pixels, "what differs is the neighbour's"
    with unchanged_host(webui):
        ordinary = webui.txt2img().pixels
        webui.probe.reset()
        alone, before = ask(webui, ditail, case.base), webui.probe.records()
        webui.probe.reset()
        both, beside = ask(webui, ditail, case.base, case.asked), webui.probe.records()
        assert both.status == 200, both.body
        assert apart(only, plain) > 0
        assert min(apart(both, other) for other in (alone, only, plain)) > 0
        if not case.own_encoding:
            assert inverted(beside) == inverted(before)
        assert recorded(beside) == recorded(before) > 0
        webui.probe.reset()
        again, after = ask(webui, ditail, case.base), webui.probe.records()
        assert again.pixels == alone.pixels
        assert inverted(after) == inverted(before)
        assert webui.txt2img().pixels == ordinary


def the_same_without_ditail(webui: WebUI, without: WebUI, case: Case) -> None:
    """With Ditail off a neighbour makes what it makes in a WebUI that has no Ditail."""
    pictures = []
    for client, ditail in ((webui, {"enabled": False}), (without, None)):
        with aimed(client, case.target):
            settle(client, case)
            pictures.append(ask(client, ditail, case.base, case.asked).pixels)
            ask(client, None, case.base)
    assert pictures[0] == pictures[1]


def the_same_without_neighbours(
    webui: WebUI, without: WebUI, sources: dict[str, dict[str, str]] = SOURCES, target: str = Case.target
) -> None:
    """With all neighbours off Ditail makes what it makes in a WebUI that has none."""
    with aimed(webui, target), aimed(without, target):
        for ditail in sources.values():
            assert ask(webui, ditail).pixels == ask(without, ditail).pixels
            assert webui.txt2img(ditail).pixels == without.txt2img(ditail).pixels
