"""The extension as an installation has it: copied, in a folder of another name than its script's.

A linked folder is none of the host's extensions: its ``metadata.ini`` is not read, and its callbacks go by another
name.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
PROBE = REPOSITORY / "tests" / "host" / "probe"

NEIGHBOUR = REPOSITORY / "tests" / "host" / "neighbour"
NEIGHBOURS = ("a-neighbour", "z-neighbour")
"""Stand-ins for other extensions, before and after Ditail in the alphabet; they do nothing unless they are asked."""

FITTED = {
    "sd-webui-freeu": {"lib_free_u/unet.py": {"[1280, 640, 320].index": "[32, 32, 32].index"}},
    "sd-webui-controlnet": {
        "scripts/controlnet_model_guess.py": {
            "'model_channels': 320,": "'model_channels': 32,",
            "'channel_mult': [1, 2, 4, 4],": "'channel_mult': [1, 1, 1, 1],",
            '"num_heads": 8,': '"num_heads": 4,',
            '"num_head_channels": 64,': '"num_head_channels": 16,',
            "'adm_in_channels': 2816,": "'adm_in_channels': 1920,",
            "'context_dim': 2048,": "'context_dim': 448,",
            "'transformer_depth': [0, 2, 10],": "'transformer_depth': [0, 2, 2],",
            "'transformer_depth_middle': 10,": "'transformer_depth_middle': 2,",
            "transformer_blocks.9.norm3": "transformer_blocks.1.norm3",
            "'context_dim': 768,": "'context_dim': 64,",
        },
        "scripts/enums.py": {"else range(10)": "else range(2)", "for index in range(10)": "for index in range(2)"},
        "scripts/ipadapter/ipadapter_model.py": {"cross_attention_dim == 2048": "cross_attention_dim == 448"},
    },
}
"""What real extensions know of SD1's and SDXL's shapes, by file, and what the small checkpoints have in its place."""

HELPERS = {"adetailer": "detector", "sd-webui-ditail": "authors"}
"""Extensions of ours, in this folder, without which real ones cannot be tested."""

FOLDER = "sd-webui-ditail"

PARTS = (
    "scripts",
    "ditail_ext",
    "javascript",
    "localizations",
    "style.css",
    "install.py",
    "preload.py",
    "metadata.ini",
)
"""What of the repository a WebUI reads; it has no ``javascript`` as long as the panel needs none."""


def install(extensions: Path, folder: str = FOLDER, further: Sequence[Path] = (PROBE,)) -> None:
    """Copy the extension (unless its folder has no name), further ones and the neighbours among a WebUI's."""
    unwanted = shutil.ignore_patterns("__pycache__")
    for part in PARTS if folder else ():
        source, destination = REPOSITORY / part, extensions / folder / part
        destination.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, destination, ignore=unwanted)
        elif source.is_file():
            shutil.copyfile(source, destination)
    for other in further:
        shutil.copytree(other, extensions / other.name, ignore=unwanted)
    for name in NEIGHBOURS:
        shutil.copytree(NEIGHBOUR, extensions / name, ignore=unwanted)


def install_real(extensions: Path, checkouts: Path | None, wanted: Mapping[str, str]) -> None:
    """Copy checkouts of real extensions into folders; what they need of packages is on $PYTHONPATH, if anywhere."""
    for folder, name in wanted.items():
        assert checkouts is not None, "no checkouts of extensions"
        shutil.copytree(checkouts / name, extensions / folder, ignore=shutil.ignore_patterns("__pycache__", ".git"))
        for file, changes in FITTED.get(name, {}).items():
            _fit(extensions / folder / file, changes)
    for name, helper in HELPERS.items():
        if name in wanted.values():
            shutil.copytree(REPOSITORY / "tests" / "host" / helper, extensions / helper)


def _fit(file: Path, changes: Mapping[str, str]) -> None:
    text = file.read_text(encoding="utf-8")
    for theirs, ours in changes.items():
        assert theirs in text, f"{file} is another version"
        text = text.replace(theirs, ours)
    file.write_text(text, encoding="utf-8")
