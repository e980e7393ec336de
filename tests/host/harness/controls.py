"""Models of the real ControlNet extension for the time of a test, and what asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .beside import script
from .client import circle, encode
from .server import WebUI

HINT = encode(circle(colour=(20, 200, 60)))


def place_of(webui: WebUI) -> Path:
    """The folder where the extension looks for its models."""
    return webui.data / "extensions" / "sd-webui-controlnet" / "models"


@contextmanager
def listed(webui: WebUI) -> Iterator[None]:
    """What lies in the folder by now is known, and it is removed in the end."""
    before = "".join(webui.get("/controlnet/model_list", update="true").body["model_list"])
    files = [file for file in place_of(webui).iterdir() if file.suffix == ".safetensors"]
    assert all(file.stem in before for file in files), before
    yield
    for file in files:
        file.unlink()


def unit(webui: WebUI, stem: str, **changed: Any) -> dict[str, Any]:
    """A request's part that asks for the model of a file, as it is, without a preprocessor."""
    names = webui.get("/controlnet/model_list").body["model_list"]
    name = next(name for name in names if name.startswith(stem))
    usual = {"enabled": True, "module": "none", "model": name, "image": HINT, "save_detected_map": False}
    return script("ControlNet", usual | changed)
