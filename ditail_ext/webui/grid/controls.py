"""The grid's controls below the Script menu."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from modules import sd_models
from modules.infotext_utils import PasteField, quote
from modules.ui_common import create_refresh_button

from ...settings import TABLE
from ..host import networks
from ..panel.controls import source_choices

ElemId = Callable[[str], str]

TITLE = "Ditail grid"

CHECKPOINTS_HELP = "Each is the source of a row and the target of a column. The Ditail panel's settings apply."
LORAS_HELP = "More styles: LoRAs on the selected checkpoint, as name:weight, separated by commas."

_KEYS = {"checkpoints": "Ditail grid checkpoints", "loras": "Ditail grid LoRAs"}

_INVERSION_PROMPT = re.compile(rf', {TABLE["inversion_prompt"].infotext}: (?:"(?:\\.|[^\\"])*"|[^,]*)')


def build_controls(elem_id: ElemId) -> tuple[list[Any], list[PasteField]]:
    """The script's arguments in their order, and what fills them from an infotext."""
    with gr.Row(elem_classes=["ditail-row"]):
        checkpoints = gr.Dropdown(
            choices=checkpoint_choices(),
            value=[],
            multiselect=True,
            label="Checkpoints of the grid",
            info=CHECKPOINTS_HELP,
            elem_id=elem_id("checkpoints"),
        )
        create_refresh_button(
            checkpoints, sd_models.list_models, lambda: {"choices": checkpoint_choices()}, elem_id("refresh")
        )
    with gr.Row(elem_classes=["ditail-row"]):
        loras = gr.Textbox("", label="LoRAs of the grid", info=LORAS_HELP, lines=1, elem_id=elem_id("loras"))
        add = gr.Dropdown(choices=lora_choices(), value=None, label="Add a LoRA", elem_id=elem_id("add_lora"))
        create_refresh_button(add, networks.list_loras, lambda: {"choices": lora_choices()}, elem_id("refresh_loras"))
    add.do_not_save_to_config = True
    add.input(fn=with_lora, inputs=[loras, add], outputs=[loras, add], show_progress=False, queue=False)
    pastes = [PasteField(checkpoints, _paste_checkpoints), PasteField(loras, _paste_loras)]
    return [checkpoints, loras], pastes


def checkpoint_choices() -> list[str]:
    """What the checkpoints may be."""
    return source_choices()[1:]


def lora_choices() -> list[str]:
    """What the LoRAs may be, by the names of the Lora tab."""
    return sorted({name for name, found in networks.known_loras().items() if name == found.name}, key=str.casefold)


def with_lora(text: str, name: str | None) -> tuple[str, None]:
    """The text with one LoRA more, and a list that stands at nothing again."""
    before = text.strip().rstrip(",").rstrip()
    return (f"{before}, {name}" if before else name) if name else text, None


def sheet_infotext(cell: str, checkpoints: list[str], loras: list[str], *, told: bool) -> str:
    """A cell's infotext as that of a sheet, which selects the script again and fills its controls.

    Args:
        cell: of the first cell.
        checkpoints: of the grid.
        loras: of the grid.
        told: whether the person gave the inversion prompt; else each cell has its own, which is none of the panel's.
    """
    if not told:
        cell = _INVERSION_PROMPT.sub("", cell)
    entries = {"Script": TITLE, _KEYS["checkpoints"]: quote(json.dumps(checkpoints, ensure_ascii=False))}
    if loras:
        entries[_KEYS["loras"]] = quote(", ".join(loras))
    return ", ".join([cell, *(f"{key}: {value}" for key, value in entries.items())])


def _paste_checkpoints(params: Mapping[str, Any]) -> Any:
    text = params.get(_KEYS["checkpoints"])
    if text is None:
        return None
    try:
        names = json.loads(text)
    except ValueError:
        return None
    known = checkpoint_choices()
    return [name for name in names if name in known] if isinstance(names, list) else None


def _paste_loras(params: Mapping[str, Any]) -> Any:
    return params.get(_KEYS["loras"], "") if _KEYS["checkpoints"] in params else None
