"""A real WebUI for the tests in this folder; without one they are skipped, and the summary says so.

A module's mark ``server`` names the WebUI that its tests run on, several names one after the other; ``webui`` and
``probe`` are that one's. All tests of a server are one group of pytest-xdist's, in one worker, one after the other.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from harness.hosts import HOSTS, find_host, python_of
from harness.models import checkpoints
from harness.pages.browser import NO_BROWSER, NO_SELENIUM
from harness.probe import Probe
from harness.server import NO_EXTENSIONS, WebUI, find_extensions, find_webui
from harness.servers import SETUPS, Servers, key_of, keys_of

NO_WEBUI = "no WebUI found: set WEBUI_DIR to an installed AUTOMATIC1111 WebUI 1.10 to run tests/host"

_HERE = Path(__file__).parent
_SERVERS = pytest.StashKey[Servers]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module that names several servers runs on each, but for a test that says itself what it runs on where."""
    keys = keys_of(metafunc.definition.getparent(pytest.Module))
    says = any("webui" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if len(keys) > 1 and "webui" in metafunc.fixturenames and not says:
        metafunc.parametrize("webui", keys, indirect=True, scope="module")


def is_here(item: pytest.Item) -> bool:
    """Whether a test is one of this folder's."""
    return item.path.is_relative_to(_HERE)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, skip it where there is no WebUI, and put each server's tests together, the most first."""
    mine = [item for item in items if is_here(item)]
    for item in mine:
        item.add_marker(pytest.mark.host)
        item.add_marker(pytest.mark.xdist_group(key_of(item)))
        host = SETUPS[key_of(item)].host
        if find_host(host) is None:
            item.add_marker(pytest.mark.skip(reason=_missing(host)))
        real = SETUPS[key_of(item)].real.values()
        if real and find_extensions(real) is None:
            item.add_marker(pytest.mark.skip(reason=f"{NO_EXTENSIONS}: {', '.join(sorted(set(real)))}"))
    order = list(SETUPS)
    mine.sort(key=lambda item: order.index(key_of(item)))
    items[:] = [*mine, *(item for item in items if not is_here(item))]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[object]:
    """After the last test here, and its second try, nobody needs a server."""
    try:
        return (yield)
    finally:
        if item.config.stash.get(_SERVERS, None) and (nextitem is None or not is_here(nextitem)):
            item.config.stash[_SERVERS].stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line that nobody overlooks, for each thing that was missing."""
    skipped = {str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])}
    for missing in (*map(_missing, HOSTS), NO_BROWSER, NO_SELENIUM, NO_EXTENSIONS):
        if any(missing in reason for reason in skipped):
            terminalreporter.write_line(f"NOT TESTED: {missing}", red=True, bold=True)


def _missing(host: str) -> str:
    return NO_WEBUI if host == "webui" else HOSTS[host].missing


def recipe(*names: str) -> str:
    """Short hash of the harness's files from which something is made."""
    folder = _HERE / "harness" / "models"
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()[:12]


@pytest.fixture(scope="session")
def model_files(pytestconfig: pytest.Config) -> Path:
    """Folder with ``checkpoints`` and ``Lora``, made once and kept in pytest's cache."""
    name = f"ditail-models-{recipe('checkpoints.py', 'random_weights.py', 'sd1.yaml')}"
    folder = Path(pytestconfig.cache.mkdir(name))
    with FileLock(folder.with_suffix(".lock")):  # of two workers one makes them
        checkpoints.make_all(folder)
    return folder


@pytest.fixture(scope="session")
def family_files(model_files: Path, pytestconfig: pytest.Config) -> Path:
    """Narrow SDXL and SD2 checkpoints, made once by the WebUI's own interpreter and kept in pytest's cache."""
    name = f"ditail-open-clip-{recipe('make_open_clip.py', 'random_weights.py')}"
    files = Path(pytestconfig.cache.mkdir(name))
    with FileLock(files.with_suffix(".lock")):
        if not (files / "complete").is_file():
            webui = find_webui()
            assert webui is not None
            maker = _HERE / "harness" / "models" / "make_open_clip.py"
            command = [python_of(webui), maker, webui, model_files / "text-encoder", files]
            made = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stderr[-2000:]
            (files / "complete").touch()
    return files


@pytest.fixture(scope="session")
def servers(model_files: Path, pytestconfig: pytest.Config) -> Iterator[Servers]:
    """The shared WebUIs of this worker."""
    servers = pytestconfig.stash[_SERVERS] = Servers(model_files)
    yield servers
    servers.stop()


@pytest.fixture(scope="module")
def webui(servers: Servers, request: pytest.FixtureRequest) -> WebUI:
    """The WebUI that the module's mark names; without one ``main``."""
    return servers[getattr(request, "param", None) or keys_of(request.node)[0]]


@pytest.fixture(scope="module", autouse=True)
def same_picture(webui: WebUI) -> Iterator[None]:
    """An ordinary request makes the same picture before and after each module's tests."""
    before = webui.with_alpha().pixels
    yield
    assert webui.with_alpha().pixels == before


@pytest.fixture
def probe(webui: WebUI) -> Iterator[Probe]:
    """The WebUI's probe, with all switches off before and after, and nothing kept from another test."""
    webui.post("/ditail/v1/cache/clear")
    webui.probe.reset()
    yield webui.probe
    webui.probe.reset()
