"""The WebUI and its descendants: where each is looked for, and how it is started on the CPU."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .installed import PROBE, REPOSITORY

NARROW = REPOSITORY / "tests" / "host" / "narrow"
"""Lets a host that tells checkpoints by their sizes load the narrow ones."""

NARROW_FORGE = REPOSITORY / "tests" / "host" / "narrow_forge"
"""The same for Forge, whose loader is another."""

_ALL = (
    *("--skip-prepare-environment", "--skip-torch-cuda-test", "--skip-version-check", "--skip-install", "--api"),
    *("--no-download-sd-model", "--do-not-download-clip"),
)


@dataclass(frozen=True)
class Host:
    """One host.

    Attributes:
        name: as people know it.
        variable: of the environment, with its folder.
        folder: in the home folder, where the variable is not set.
        flags: of its command line.
        extensions: copied into its data folder beside Ditail.
        to_itself: it has to be told to serve its own folder, where its data folder is another.
    """

    name: str
    variable: str
    folder: str
    flags: tuple[str, ...]
    extensions: tuple[Path, ...] = (PROBE,)
    to_itself: bool = False

    @property
    def missing(self) -> str:
        """What is said where it is not found."""
        return f"no {self.name} found: set {self.variable} to an installed one to run the tests on it"


HOSTS = {
    "webui": Host(
        "AUTOMATIC1111 WebUI 1.10",
        "WEBUI_DIR",
        "stable-diffusion-webui",
        (*_ALL, "--use-cpu", "all", "--opt-sdp-attention"),
    ),
    "reforge": Host(
        "reForge",
        "REFORGE_DIR",
        "reforge",
        (*_ALL, "--always-cpu", "--all-in-fp32", "--vae-in-fp32", "--clip-in-fp32", "--attention-pytorch"),
        (PROBE, NARROW),
    ),
    "forge": Host(
        "Forge",
        "FORGE_DIR",
        "forge",
        (*_ALL, "--always-cpu", "--all-in-fp32", "--vae-in-fp32", "--clip-in-fp32", "--attention-pytorch"),
        (PROBE, NARROW_FORGE),
        to_itself=True,
    ),
}


def find_host(key: str) -> Path | None:
    """Where a host with its own Python is installed: its variable, or the home folder."""
    named = os.environ.get(HOSTS[key].variable)
    folder = Path(named) if named else Path.home() / HOSTS[key].folder
    return folder if (folder / "launch.py").is_file() and python_of(folder).is_file() else None


def python_of(folder: Path) -> Path:
    """The interpreter of a host's own environment."""
    return folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
