"""A real WebUI for the tests in this folder; without one they are skipped, and the summary says so."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import checkpoints
from harness.browser import NO_BROWSER, NO_SELENIUM
from harness.probe import Probe
from harness.server import WebUI, find_webui, webui_python

NO_WEBUI = "no WebUI found: set WEBUI_DIR to an installed AUTOMATIC1111 WebUI 1.10 to run tests/host"

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, and skip it where there is no WebUI."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.host)
            if find_webui() is None:
                item.add_marker(pytest.mark.skip(reason=NO_WEBUI))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line that nobody overlooks, for each thing that was missing."""
    skipped = {str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])}
    for missing in (NO_WEBUI, NO_BROWSER, NO_SELENIUM):
        if any(missing in reason for reason in skipped):
            terminalreporter.write_line(f"NOT TESTED: {missing}", red=True, bold=True)


def recipe(*names: str) -> str:
    """Short hash of the harness's files from which something is made."""
    return hashlib.sha256(b"".join((_HERE / "harness" / name).read_bytes() for name in names)).hexdigest()[:12]


@pytest.fixture(scope="session")
def model_files(pytestconfig: pytest.Config) -> Path:
    """Folder with ``checkpoints`` and ``Lora``, made once and kept in pytest's cache."""
    folder = Path(
        pytestconfig.cache.mkdir(f"ditail-models-{recipe('checkpoints.py', 'random_weights.py', 'sd1.yaml')}")
    )
    checkpoints.make_all(folder)
    return folder


@pytest.fixture(scope="session")
def start_webui(model_files: Path) -> Iterator[Callable[..., WebUI]]:
    """Starts a WebUI: ``start_webui(flags=[...], options={...}, auth=(user, password), ui_config={...})``.

    The same arguments give the same running one; all end with the session.
    """
    running: dict[str, WebUI] = {}

    def start(**how: Any) -> WebUI:
        key = repr(sorted(how.items()))
        if key not in running:
            running[key] = WebUI(model_files, **how)
        return running[key]

    yield start
    for webui in running.values():
        webui.stop()


@pytest.fixture(scope="session")
def webui(start_webui: Callable[..., WebUI]) -> WebUI:
    """The WebUI that most tests share: checkpoint alpha, limit 1."""
    return start_webui()


@pytest.fixture(scope="session")
def other_families(start_webui: Callable[..., WebUI], model_files: Path, pytestconfig: pytest.Config) -> WebUI:
    """A WebUI with narrow SDXL and SD2 checkpoints besides (``xl-alpha``, ``xl-beta``, ``sd2-alpha``, ``sd2-beta``).

    Made once by the WebUI's own interpreter and kept in pytest's cache.
    """
    files = Path(pytestconfig.cache.mkdir(f"ditail-open-clip-{recipe('make_open_clip.py', 'random_weights.py')}"))
    if not (files / "complete").is_file():
        webui = find_webui()
        assert webui is not None
        maker = _HERE / "harness" / "make_open_clip.py"
        command = [webui_python(webui), maker, webui, model_files / "text-encoder", files]
        made = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr[-2000:]
        (files / "complete").touch()
    started = start_webui(options={"show_progress_type": "Approx cheap"})  # other previews download an SDXL decoder
    for file in files.iterdir():
        (started.checkpoints / file.name).symlink_to(file)
    started.post("/sdapi/v1/refresh-checkpoints")
    return started


@pytest.fixture
def probe(webui: WebUI) -> Iterator[Probe]:
    """The shared WebUI's probe, with all switches off before and after, and nothing kept from another test."""
    webui.post("/ditail/v1/cache/clear")
    webui.probe.reset()
    yield webui.probe
    webui.probe.reset()
