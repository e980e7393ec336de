"""One WebUI with the extensions and checkpoints it is given, in a data folder that is thrown away with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

START_LIMIT = 600
"""Seconds until a WebUI must have started."""
REQUEST_LIMIT = 7200
"""Seconds that one generation may take."""

FLAGS = (
    *("--skip-prepare-environment", "--skip-torch-cuda-test", "--skip-version-check", "--skip-install"),
    *("--no-download-sd-model", "--do-not-download-clip", "--api", "--opt-sdp-attention"),
)
CPU_FLAGS = ("--no-half", "--use-cpu", "all")
OPTIONS = {"sd_checkpoints_limit": 1, "samples_save": False, "grid_save": False, "save_images_add_number": False}


class Server:
    """A running WebUI; use it in a ``with``.

    Args:
        webui: folder of an installed WebUI with its own ``venv``.
        checkpoints: folder of checkpoint files.
        extensions: folders by the name they get.
        target: file name of the checkpoint to load.
        gpu: whether to compute on the GPU, in half precision.
    """

    def __init__(
        self, webui: Path, checkpoints: Path, extensions: Mapping[str, Path], target: str, *, gpu: bool
    ) -> None:
        self._data = Path(tempfile.mkdtemp(prefix="ditail-bench-"))
        self._port = _free_port()
        self._webui = webui
        self._flags = FLAGS if gpu else (*FLAGS, *CPU_FLAGS)
        (self._data / "extensions").mkdir()
        for name, folder in extensions.items():
            (self._data / "extensions" / name).symlink_to(folder.resolve(), target_is_directory=True)
        (self._data / "config.json").write_text(json.dumps({**OPTIONS, "sd_model_checkpoint": target}), "utf-8")
        self._checkpoints = checkpoints.resolve()
        self._log = self._data / "log.txt"
        self._started = 0  # characters of the log when it had started

    def __enter__(self) -> Server:
        places = ["--data-dir", self._data, "--ckpt-dir", self._checkpoints, "--port", self._port]
        interpreter = self._webui / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        command = [str(word) for word in (interpreter, "launch.py", *self._flags, *places)]
        quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
        environment = {**os.environ, **quiet, "PYTHONUNBUFFERED": "1"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self._webui, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._data, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def log(self) -> str:
        """What it has written to its console since it had started; until then, everything."""
        return self._log.read_text("utf-8", errors="replace")[self._started :]

    def post(self, path: str, payload: Mapping[str, Any]) -> Any:
        """The answer's JSON.

        Raises:
            RuntimeError: it is an error; its text is the message.
        """
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            json.dumps(dict(payload)).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_LIMIT) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read().decode(errors='replace')[:2000]}") from error

    def _wait(self) -> None:
        limit = time.monotonic() + START_LIMIT
        while time.monotonic() < limit:
            if self._process.poll() is not None:
                raise RuntimeError(f"The WebUI ended while starting:\n{self.log()[-4000:]}")
            if "Startup time:" in self.log():  # a request that comes earlier makes it fail
                self._started = len(self.log())  # what it said of extensions without a remote is not the bench's
                return
            time.sleep(0.5)
        raise RuntimeError(f"The WebUI did not start in {START_LIMIT} s:\n{self.log()[-4000:]}")


def extension_of(folder: Path, script: str) -> Path:
    """A new extension folder that consists of one script."""
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / f"{folder.name}.py").write_text(script, "utf-8")
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
