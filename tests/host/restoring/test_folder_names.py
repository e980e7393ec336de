"""What the extension's folder is called makes no difference: not to pictures, and not to the console."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.installed import NEIGHBOURS
from harness.server import Setup, WebUI

BETA = {"source_checkpoint": "beta.safetensors"}


def pictures(webui: WebUI) -> list[list[bytes]]:
    """With prompts that other extensions write, before and after Ditail in the alphabet, in both tabs."""
    made = []
    for neighbour in NEIGHBOURS:
        asked = {"alwayson_scripts": {neighbour: {"args": [["prompts", "sample"]]}}, "prompt": "a {red|blue} circle"}
        made += [webui.img2img(BETA, **asked).pixels, webui.txt2img(BETA, **asked).pixels]
    return made


@pytest.mark.slow
def test_the_same_pictures_whatever_the_folder_is_called(model_files: Path):
    found = {}
    for name in ("ditail", "sd-webui-ditail", "zz-ditail"):
        webui = WebUI(model_files, Setup(folder=name))
        try:
            found[name] = pictures(webui)
            assert "Traceback" not in webui.log()
            assert "rror" not in webui.log().split("Startup time:")[0]
        finally:
            webui.stop()
    assert found["ditail"] == found["sd-webui-ditail"] == found["zz-ditail"]
    assert found["ditail"][0] == found["ditail"][2]
    assert found["ditail"][1] == found["ditail"][3]
