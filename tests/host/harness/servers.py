"""The WebUIs that the tests share: which there are, which runs, and whose turn it is."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from .server import Setup, WebUI

AUTH = ("someone", "secret")

CONFIGURED = {"customscript/ditail.py/img2img/Negative scale (β)/value": 1.5}
"""What a user has saved as a default of their own."""


def _named(*names: str) -> dict[str, str]:
    """Real extensions in folders of their own names."""
    return dict(zip(names, names, strict=True))


def _writing_prompts(prefix: str) -> Setup:
    """Beside the two that rewrite prompts, in folders that begin with a letter."""
    folders = {f"{prefix}-dynamic-prompts": "sd-dynamic-prompts", f"{prefix}-wildcards": _WILDCARDS}
    return Setup(real=folders, options=_OF_DYNAMIC_PROMPTS)


_WILDCARDS = "stable-diffusion-webui-wildcards"

_FALSE = ("ignore_whitespace", "write_raw_template", "write_prompts_to_file", "limit_jinja_prompts")
_OF_DYNAMIC_PROMPTS = {
    **{f"dp_{name}": False for name in _FALSE},
    **{f"dp_wildcard_manager_{name}": False for name in ("no_dedupe", "no_sort", "shuffle")},
    "dp_auto_purge_cache": False,
    "dp_parser_variant_start": "{",
    "dp_parser_variant_end": "}",
    "dp_parser_wildcard_wrap": "__",
    "dp_magicprompt_batch_size": 1,
}
"""Its options, as saved: in the first start it registers them too late for the WebUI to know them, and fails."""

_OTHERS = {
    "authors-ditail": "sd-webui-ditail",
    **_named("adetailer", "multidiffusion-upscaler-for-automatic1111", "sd-dynamic-thresholding", "sd-webui-freeu"),
    **_named("sd-webui-incantations", "sd-webui-neutral-prompt", "sd-webui-agent-scheduler"),
}
"""Not Regional Prompter: beside Neutral Prompt it fails, with no Ditail there. The authors' Ditail has the same name
for its folder as this extension.
"""

SETUPS = {
    "main": Setup(),
    "one-yaml": Setup(one_yaml=True),
    "held": Setup(options={"sd_checkpoints_limit": 2}, beside=("beta.safetensors",)),
    "panel": Setup(auth=AUTH, ui_config=CONFIGURED),
    "others": Setup(),
    "german": Setup(options={"localization": "de_DE"}),
    "medvram": Setup(flags=("--medvram",)),
    "lowvram": Setup(flags=("--lowvram",)),
    "real": Setup(real=_named("sd-webui-controlnet", "sd-webui-negpip", "multidiffusion-upscaler-for-automatic1111")),
    "real-medvram": Setup(real=_named("sd-webui-controlnet", "adetailer"), flags=("--medvram", "--ad-no-huggingface")),
    "many": Setup(real=_OTHERS, flags=("--ad-no-huggingface",)),
    "regions": Setup(real=_named("sd-webui-regional-prompter", "sd-webui-lora-block-weight")),
    "prompts-before": _writing_prompts("a"),
    "prompts-after": _writing_prompts("z"),
    "half": Setup(precision=("--precision", "half")),
    "reforge": Setup(host="reforge", precision=()),
    "forge": Setup(host="forge", precision=()),
}
"""By key, the longest-running first.

``main`` and ``one-yaml`` hold one checkpoint, so a source is loaded for each test; ``held`` has alpha and beta in
memory, for whatever is not about loading, and is faster. ``others`` has further checkpoints.
"""

MAIN = "main"

ELSEWHERE = os.environ.get("DITAIL_TEST_HOST")
"""Another of ``hosts.HOSTS``, on which every test is run that it can have; see ``cannot.py``."""

if ELSEWHERE:
    SETUPS = {key: dataclasses.replace(setup, host=ELSEWHERE, precision=()) for key, setup in SETUPS.items()}


class Servers:
    """Starts each when it is first asked for, and ends the one before: of a worker's servers one runs at a time."""

    def __init__(self, files: Path) -> None:
        self._files = files
        self._running: dict[str, WebUI] = {}

    def __getitem__(self, key: str) -> WebUI:
        for other in [other for other in self._running if other != key]:
            self._running.pop(other).stop()
        if key not in self._running:
            self._running[key] = WebUI(self._files, SETUPS[key])
        return self._running[key]

    def stop(self) -> None:
        """End what runs."""
        while self._running:
            self._running.popitem()[1].stop()


def keys_of(module: pytest.Module | None) -> tuple[str, ...]:
    """The servers on which a module's tests run, by its mark ``server``."""
    mark = module.get_closest_marker("server") if module is not None else None
    return mark.args if mark is not None else (MAIN,)


def key_of(item: pytest.Item) -> str:
    """The server of one test."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("webui") or keys_of(item.getparent(pytest.Module))[0]
