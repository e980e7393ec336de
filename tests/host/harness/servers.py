"""The WebUIs that the tests share: which there are, which runs, and whose turn it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from .server import Setup, WebUI

AUTH = ("someone", "secret")

CONFIGURED = {"customscript/ditail.py/img2img/Negative scale (β)/value": 1.5}
"""What a user has saved as a default of their own."""

SETUPS = {
    "main": Setup(),
    "held": Setup(options={"sd_checkpoints_limit": 2}, beside=("beta.safetensors",)),
    "panel": Setup(auth=AUTH, ui_config=CONFIGURED),
    "others": Setup(),
    "german": Setup(options={"localization": "de_DE"}),
    "medvram": Setup(flags=("--medvram",)),
    "lowvram": Setup(flags=("--lowvram",)),
    "real": Setup(real=True),
    "half": Setup(precision=("--precision", "half")),
}
"""By key, the longest-running first.

``main`` holds one checkpoint, so a source is loaded for each test; ``held`` has alpha and beta in memory, for
whatever is not about loading, and is faster. ``others`` has further checkpoints.
"""

MAIN = "main"


class Servers:
    """Starts each when it is first asked for, and ends the one before: of a worker's servers one runs at a time."""

    def __init__(self, files: Path) -> None:
        self._files = files
        self._running: dict[str, WebUI] = {}

    def __getitem__(self, key: str) -> WebUI:
        for other in [other for other in self._running if other != key]:
            self._running.pop(other).stop()
        if key not in self._running:
            self._running[key] = WebUI(self._files, SETUPS[key])
        return self._running[key]

    def stop(self) -> None:
        """End what runs."""
        while self._running:
            self._running.popitem()[1].stop()


def keys_of(module: pytest.Module | None) -> tuple[str, ...]:
    """The servers on which a module's tests run, by its mark ``server``."""
    mark = module.get_closest_marker("server") if module is not None else None
    return mark.args if mark is not None else (MAIN,)


def key_of(item: pytest.Item) -> str:
    """The server of one test."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("webui") or keys_of(item.getparent(pytest.Module))[0]
