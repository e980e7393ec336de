"""The demonstration's checkpoints and its LoRA, as shipped, among a WebUI's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.assemble import assemble
from demo.parts import SHIPPED

from .server import WebUI


@contextmanager
def shipped(webui: WebUI, folder: Path) -> Iterator[None]:
    """They are listed meanwhile.

    Args:
        webui: where.
        folder: empty; they are put together in it.
    """
    assemble(SHIPPED, folder)
    links = []
    for file in filter(Path.is_file, folder.iterdir()):
        place = webui.loras if file.stem.endswith("-lora") else webui.checkpoints
        links.append(place / file.name)
        links[-1].symlink_to(file)
    _refresh(webui)
    try:
        yield
    finally:
        for link in links:
            link.unlink()
        _refresh(webui)


def _refresh(webui: WebUI) -> None:
    for kind in ("checkpoints", "loras"):
        assert webui.post(f"/sdapi/v1/refresh-{kind}").status == 200
