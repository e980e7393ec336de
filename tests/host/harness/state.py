"""A host before, in and after a test."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from .client import Client
from .server import WebUI

OF_THE_OBJECT = ("module_attributes",)
"""Of the state, what another object of one checkpoint may have otherwise: layers remember networks that they had."""

NOTED = ("model_attributes",)
"""Of the state in Forge, whose sampling writes attributes into the model: another object has none of them yet."""


@contextmanager
def unchanged_host(webui: WebUI, but: Collection[str] = ()) -> Iterator[None]:
    """The host's state is the same afterwards; before, the cache is empty and the option's checkpoint loaded.

    What an ordinary request draws is compared once for each module (see ``same_picture`` in ``conftest.py``): the
    state holds all that it follows from, weights included.

    Args:
        but: names of the state that may change: ``object`` where the host itself loads another model meanwhile.
    """
    assert webui.post("/ditail/v1/cache/clear").status == 200
    webui.probe.reset()
    # What another test left loaded, or merged into the weights, goes; with one step DDIM would not call the UNet.
    assert webui.txt2img(steps=2).status == 200
    before = webui.probe.state()
    yield
    webui.probe.reset()
    after = webui.probe.state()
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    allowed = {*but, *(OF_THE_OBJECT if "object" in but else ()), *(NOTED if webui.host == "forge" else ())}
    unexpected = {name: values for name, values in changed.items() if name not in allowed}
    assert unexpected == {}, unexpected


@contextmanager
def options(webui: Client, values: dict[str, Any]) -> Iterator[None]:
    """Options for the time of a test. (Given with a request the WebUI does not restore those never saved.)"""
    before = {
        name: webui.get("/probe/option", name=name).body for name in values
    }  # Forge's API lists saved ones alone
    assert webui.post("/sdapi/v1/options", values).status == 200
    try:
        yield
    finally:
        webui.post("/sdapi/v1/options", before)
