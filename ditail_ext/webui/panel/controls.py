"""The panel: one control for each setting of the table, the region mask, and the content picture in txt2img."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from modules import sd_models, sd_vae
from modules.infotext_utils import PasteField
from modules.ui_common import create_refresh_button
from modules.ui_components import InputAccordion

from ...setting import Group, Section
from ...settings import AUTOMATIC, NO_MIX, SAME_AS_TARGET, TABLE
from ..cache import memory as cache
from ..request.arguments import ARGUMENTS
from ..request.pictures import LABELS, MASK, PICTURE
from .paste import paste

ElemId = Callable[[str], str]

PICTURES = {
    PICTURE: (
        LABELS[PICTURE],
        "The picture whose structure is kept; it is cropped and resized to the size of the generation. Without one "
        "the source checkpoint generates it, with the same prompt, seed and sampler.",
    ),
    MASK: (
        LABELS[MASK],
        "For the region of that name, of the picture's proportions: a grey picture, white where to inject in full, "
        "black where not at all, grey for a strength between, so that one mask holds several regions of different "
        "strengths. Or put the picture itself here and paint on it what to inject in full.",
    ),
}
"""Label and help of the arguments that are pictures."""

_PICTURE_HEIGHT = 260


@dataclass(frozen=True)
class Panel:
    """What the host wants to know of a script's controls.

    Attributes:
        components: the script's arguments in their order.
        infotext_fields: what fills them from an infotext.
        paste_field_names: infotext keys that "Send to img2img" carries along; none, for what it sends is Ditail's
            result and not the picture to keep the structure of.
    """

    components: list[Any]
    infotext_fields: list[PasteField]
    paste_field_names: list[str]


def build_panel(is_img2img: bool, elem_id: ElemId) -> Panel:
    """Build one tab's panel. The host calls this several times for a tab: nothing is remembered."""
    controls: dict[str, Any] = {}
    title = TABLE["enabled"]
    with InputAccordion(False, label=title.label, elem_id=elem_id("enabled")) as controls["enabled"]:
        _help(title.help)
        if not is_img2img:
            controls[PICTURE] = _picture(PICTURE, elem_id)
            _help(PICTURES[PICTURE][1])
        _rows(Section.TOP, controls, elem_id)
        for section in (Section.REGION, Section.MIX, Section.ADVANCED):
            with gr.Accordion(section.value, open=False, elem_id=elem_id(f"{section.name.lower()}_section")):
                _rows(section, controls, elem_id)
                if section is Section.REGION:
                    controls[MASK] = _picture(MASK, elem_id, tool="sketch", brush_color="#ffffff")
                    _help(PICTURES[MASK][1])
                if section is Section.ADVANCED:
                    _clear_button(elem_id)
    names = [name for name in ARGUMENTS if name in controls]
    pastes = [PasteField(controls[name], paste(TABLE[name])) for name in names if name in TABLE]
    return Panel([controls[name] for name in names], pastes, [])


def source_choices() -> list[str]:
    """What the source checkpoint may be: file names, which stay the same when a hash becomes known."""
    return [SAME_AS_TARGET, *_checkpoint_names()]


def mix_choices() -> list[str]:
    """What the target may be mixed with."""
    return [NO_MIX, *_checkpoint_names()]


def _checkpoint_names() -> list[str]:
    return sorted((info.name for info in sd_models.checkpoints_list.values()), key=str.casefold)


def vae_choices() -> list[str]:
    """What the source VAE may be."""
    return [AUTOMATIC, *sd_vae.vae_dict]


LISTS: dict[str, Callable[[], list[str]]] = {
    "source_checkpoint": source_choices,
    "source_vae": vae_choices,
    "mix_checkpoint": mix_choices,
}
"""Settings whose values are a list of the host's files."""


def _rows(section: Section, controls: dict[str, Any], elem_id: ElemId) -> None:
    """The controls of a section, a row for each group of the table."""
    for group in (group for group in Group if group.section is section and group is not Group.SWITCH):
        with gr.Row(elem_classes=["ditail-row"]):
            for name in (name for name, setting in TABLE.items() if setting.group is group):
                controls[name] = _control(name, elem_id)


def _help(text: str) -> Any:
    return gr.HTML(f"<p>{text}</p>", elem_classes=["ditail-help"])


def _picture(name: str, elem_id: ElemId, **more: Any) -> Any:
    return gr.Image(
        label=PICTURES[name][0],
        type="pil",
        source="upload",
        image_mode="RGBA",
        height=_PICTURE_HEIGHT,
        elem_id=elem_id(name),
        **more,
    )


def _control(name: str, elem_id: ElemId) -> Any:
    """The control that a setting's kind asks for."""
    setting = TABLE[name]
    shared = {"label": setting.label, "info": setting.help, "value": setting.default, "elem_id": elem_id(name)}
    if name in LISTS:
        return _list_of_files(name, shared)
    if setting.kind is bool:
        return gr.Checkbox(**shared)
    if setting.choices is not None:
        return gr.Radio(choices=list(setting.choices), **shared)
    if setting.kind in (int, float):
        return gr.Slider(minimum=setting.minimum, maximum=setting.maximum, step=setting.step, **shared)
    return gr.Textbox(lines=2, **shared)


def _list_of_files(name: str, shared: dict[str, Any]) -> Any:
    """A list with the host's button beside it that looks for new files."""
    dropdown = gr.Dropdown(choices=LISTS[name](), **shared)
    refresh = sd_vae.refresh_vae_list if name == "source_vae" else sd_models.list_models
    create_refresh_button(dropdown, refresh, lambda: {"choices": LISTS[name]()}, f"{dropdown.elem_id}_refresh")
    return dropdown


def _clear_button(elem_id: ElemId) -> None:
    with gr.Row():
        button = gr.Button("Clear cache", size="sm", elem_id=elem_id("clear_cache"))
        message = _help("Inversions are kept for the next generation from the same picture.")
    button.click(fn=_clear, inputs=[], outputs=[message], show_progress=False)


def _clear() -> str:
    cache.clear()
    return "<p>The kept inversions are cleared.</p>"
