"""Files that become others under their names: what was loaded counts while it is loaded, then what the file holds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.fresh import fresh, make
from harness.server import WebUI
from harness.state import options

SOURCE = "train.safetensors"
"""People train into one file name."""

pytestmark = pytest.mark.usefixtures("probe")

TRAINED = {"source_checkpoint": SOURCE}
ROUTE = "/sdapi/v1/options"


@pytest.fixture(autouse=True)
def trained(webui: WebUI) -> Iterator[Path]:
    """A source of the test's own, which may be replaced."""
    path = webui.checkpoints / SOURCE
    _copy(webui, "beta", path)
    webui.post("/sdapi/v1/refresh-checkpoints")
    yield path
    webui.post(ROUTE, {"sd_model_checkpoint": "alpha.safetensors"})
    path.unlink(missing_ok=True)
    path.with_suffix(".yaml").unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


def _copy(webui: WebUI, name: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    shutil.copyfile(webui.checkpoints / f"{name}.safetensors", path)
    shutil.copyfile(webui.checkpoints / f"{name}.yaml", path.with_suffix(".yaml"))


def rewritten(webui: WebUI, path: Path) -> None:
    _copy(webui, "delta", path)


def made_v(webui: WebUI, path: Path) -> None:
    """``parameterization: v`` in the configuration beside the file."""
    file = path.with_suffix(".yaml")
    text = (webui.checkpoints / "vpred.yaml").read_text()
    file.unlink()
    file.write_text(text)
    os.utime(file)


@pytest.mark.parametrize("change", [rewritten, made_v])
@pytest.mark.parametrize("limit", [1, 2])
def test_a_source_that_became_another(webui: WebUI, trained: Path, change: Callable[..., None], limit: int):
    with options(webui, {"sd_checkpoints_limit": limit}):
        before = fresh(webui, TRAINED)
        change(webui, trained)
        warm = make(webui, TRAINED)
        assert warm == fresh(webui, TRAINED)
        assert warm != before


@pytest.mark.parametrize("change", [rewritten, made_v])
def test_a_target_that_became_another(webui: WebUI, trained: Path, change: Callable[..., None]):
    """While it is loaded, what was loaded counts; after another checkpoint was, what the file holds."""
    same = {"source_checkpoint": "same as target"}
    webui.post(ROUTE, {"sd_model_checkpoint": SOURCE})
    before = fresh(webui, same)
    change(webui, trained)
    assert make(webui, same) == before == fresh(webui, same)
    webui.post(ROUTE, {"sd_model_checkpoint": "alpha.safetensors"})
    webui.post(ROUTE, {"sd_model_checkpoint": SOURCE})
    warm = make(webui, same)
    assert warm == fresh(webui, same)
    assert warm != before


def test_a_target_whose_file_was_renamed(webui: WebUI, trained: Path):
    """It works from memory, with a source that has to be loaded, too."""
    webui.post(ROUTE, {"sd_model_checkpoint": SOURCE})
    other = {"source_checkpoint": "delta.safetensors"}
    before = fresh(webui, other)
    trained.rename(trained.with_suffix(".away"))
    try:
        assert fresh(webui, other) == before
        assert make(webui, {"source_checkpoint": "same as target"})
    finally:
        trained.with_suffix(".away").rename(trained)
