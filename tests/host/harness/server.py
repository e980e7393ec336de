"""Starts a WebUI with the extension and the probe, waits for it, ends it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .client import Answer, Client
from .hosts import HOSTS, find_host, python_of
from .installed import FOLDER, install, install_real
from .probe import Probe

START_LIMIT = 300
"""Seconds; a WebUI starts in ten on a quiet machine."""

OPTIONS = {
    "sd_checkpoints_limit": 1,
    "samples_save": False,
    "grid_save": False,
    "save_images_add_number": False,
    "sd_model_checkpoint": "alpha.safetensors",
    "show_progress_type": "Approx cheap",  # others download decoders of their own
}

PORTS = range(20_000, 30_000)
"""Below those that the system hands out to whoever connects to something."""


def find_webui() -> Path | None:
    """Where AUTOMATIC1111's WebUI is installed."""
    return find_host("webui")


NO_EXTENSIONS = "set WEBUI_EXTENSIONS to a folder of checkouts to run tests beside the real extensions"


def find_extensions(names: Iterable[str]) -> Path | None:
    """Where checkouts of real extensions are: $WEBUI_EXTENSIONS, if it has all that are named."""
    named = os.environ.get("WEBUI_EXTENSIONS")
    folder = Path(named) if named else None
    return folder if folder is not None and all((folder / name).is_dir() for name in names) else None


@dataclass(frozen=True)
class Setup:
    """What a WebUI is started with, beyond what all are; what can be changed while it runs is no reason for another.

    Attributes:
        flags: of its command line.
        precision: the flags that say in which numbers it computes.
        options: over ``OPTIONS``.
        auth: name and password of its API.
        ui_config: defaults of its controls, as a user saved them.
        real: checkouts of real extensions, by the folders that they are copied into.
        folder: what the extension's own is called.
        beside: checkpoints that it holds beside alpha; its limit has to allow for them.
        host: which of ``hosts.HOSTS``.
        one_yaml: no checkpoint that predicts noise has a ``.yaml`` of its own, as those of SD1 have none: one serves
            all, and the host would load one into another's object.
    """

    flags: tuple[str, ...] = ()
    precision: tuple[str, ...] = ("--no-half",)
    options: Mapping[str, Any] = field(default_factory=dict)
    auth: tuple[str, str] | None = None
    ui_config: Mapping[str, Any] = field(default_factory=dict)
    real: Mapping[str, str] = field(default_factory=dict)
    folder: str = FOLDER
    beside: tuple[str, ...] = ()
    host: str = "webui"
    one_yaml: bool = False


class WebUI(Client):
    """A running WebUI of our own, with a data folder that is thrown away with it.

    Attributes:
        host: which of ``hosts.HOSTS``.
        data: its data folder; ``data / "checkpoints"`` is its own to add files to.
        probe: what the UNet saw, and switches to make it fail.
    """

    def __init__(self, files: Path, setup: Setup) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="ditail-webui-"))
        self._port = _free_port()
        super().__init__(f"http://127.0.0.1:{self._port}", setup.auth)
        self.probe = Probe(self)
        self._beside = setup.beside
        self.host = setup.host
        _lay_out(self.data, files)
        install(self.data / "extensions", setup.folder, HOSTS[setup.host].extensions)
        if setup.one_yaml:
            _share_one_yaml(self.data)
        install_real(self.data / "extensions", find_extensions(setup.real.values()), setup.real)
        _write(self.data / "config.json", {**OPTIONS, **setup.options})
        _write(self.data / "ui-config.json", setup.ui_config)
        guard = ["--api-auth", ":".join(setup.auth)] if setup.auth else []
        self._log = self.data / "log.txt"
        self._process = self._start([*setup.flags, *setup.precision, *guard])
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def starts(self) -> int:
        """How often its page has been built: once, and once more for each "Reload UI"."""
        return self.log().count("Startup time:")

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def checkpoints(self) -> Path:
        return self.data / "checkpoints"

    @property
    def loras(self) -> Path:
        return self.data / "models" / "Lora"

    def with_alpha(self, **request: Any) -> Answer:
        """An ordinary picture of alpha's, after which the host holds what it is to hold beside."""
        for name in self._beside:
            self.txt2img(steps=2, override_settings={"sd_model_checkpoint": name})
        self.probe.reset()
        return self.txt2img(override_settings={"sd_model_checkpoint": "alpha.safetensors"}, **request)

    def log(self) -> str:
        """What it has written to its console so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End it and remove its data folder."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        keep = os.environ.get("DITAIL_KEEP_LOGS")
        if keep:
            Path(keep).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._log, Path(keep) / f"{self.data.name}.txt")
        shutil.rmtree(self.data, ignore_errors=True)

    def _start(self, flags: list[str]) -> subprocess.Popen[bytes]:
        webui = find_host(self.host)
        assert webui is not None, f"no {self.host} to start"
        places = ["--data-dir", self.data, "--ckpt-dir", self.checkpoints, "--port", self._port]
        places += ["--gradio-allowed-path", webui] if HOSTS[self.host].to_itself else []
        command = [python_of(webui), "launch.py", *HOSTS[self.host].flags, *places, *flags]
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [str(word) for word in command], cwd=webui, env=_environment(), stdout=log, stderr=subprocess.STDOUT
            )

    def _wait(self) -> None:
        limit = time.monotonic() + START_LIMIT
        while time.monotonic() < limit:
            if self._process.poll() is not None:
                raise RuntimeError(f"The WebUI ended while starting:\n{self.log()[-4000:]}")
            # A request that comes before it is complete makes it fail ("Cannot add middleware ..."): read, do not ask.
            if self.starts and self._has_model():
                return
            time.sleep(0.25)
        raise RuntimeError(f"The WebUI did not start in {START_LIMIT} s:\n{self.log()[-4000:]}")

    def _has_model(self) -> bool:
        return self.get("/probe/state").status == 200  # waits for the model, which is loaded in the background


def _lay_out(data: Path, files: Path) -> None:
    for name in ("checkpoints", "extensions", "models/Lora"):
        (data / name).mkdir(parents=True)
    for file in (files / "checkpoints").iterdir():
        (data / "checkpoints" / file.name).symlink_to(file)
    for file in (files / "Lora").iterdir():
        (data / "models" / "Lora" / file.name).symlink_to(file)


def _share_one_yaml(data: Path) -> None:
    (data / "checkpoints" / "alpha.yaml").rename(data / "one.yaml")  # the probe makes it the host's own for SD1
    for file in (data / "checkpoints").glob("*.yaml"):
        if file.stem != "vpred":
            file.unlink()


def _write(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(dict(values)), encoding="utf-8")


def _environment() -> dict[str, str]:
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    # Networks this small lose far more by threads waiting for each other than they gain.
    return {**os.environ, **quiet, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}


def _free_port() -> int:
    """One that nobody listens to. By chance: several sessions may look for one while none of theirs listens yet."""
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as attempt:
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")
