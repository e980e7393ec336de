"""The shipped checkpoints put into a WebUI's folder, and the picture to begin with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from demo import run, webui
from demo.parts import UNETS
from demo.world import caption, make_scene


def test_everything_lies_where_a_webui_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "ui" / "models").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["demo.webui", str(tmp_path / "ui")])
    webui.main()
    models = tmp_path / "ui" / "models"
    checkpoints = sorted(file.name for file in (models / "Stable-diffusion" / "ditail-demo").glob("*.safetensors"))
    assert checkpoints == sorted(f"ditail-demo-{name}.safetensors" for name in UNETS)
    assert [file.name for file in (models / "Lora").iterdir()] == ["ditail-demo-neon-lora.safetensors"]
    said = Image.open(tmp_path / "ditail-demo-picture.png").info["parameters"]
    assert said.splitlines()[0] == caption(make_scene(webui.SCENE))
    assert said.endswith("Model: ditail-demo-shaded")


def test_an_updated_project_builds_its_checkpoints_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    built: list[Path] = []

    def assemble(parts: Path, folder: Path) -> None:
        built.append(folder)
        (folder / "ditail-demo-ink.safetensors").touch()

    monkeypatch.setattr(run, "OUT", tmp_path)
    monkeypatch.setattr(run, "assemble", assemble)
    for _ in range(2):
        path = run.checkpoint("ink")
    assert built == [path.parent]
    os.utime(path, (0, 0))  # older than what is shipped
    assert run.checkpoint("ink") == path
    assert len(built) == 2


def test_another_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["demo.webui", str(tmp_path)])
    with pytest.raises(SystemExit):
        webui.main()
    assert "there is no" in capsys.readouterr().err
