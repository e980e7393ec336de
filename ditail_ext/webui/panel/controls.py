"""One control for each setting of the table, with what it may be chosen from and what it is called in the panel."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr
from modules import sd_models, sd_vae
from modules.ui_common import create_refresh_button

from ...settings import (
    AGGREGATE,
    AUTOMATIC,
    INPAINT_REGION,
    NO_MIX,
    OUTSIDE_REGION,
    SAME_AS_TARGET,
    SAME_AS_TARGET_SHOWN,
    TABLE,
    Setting,
)
from ..host.installed import installed
from ..request.pictures import LABELS, MASK, PICTURE

ElemId = Callable[[str], str]

PICTURES = {
    PICTURE: (
        LABELS[PICTURE],
        "The picture whose structure is kept; it is cropped and resized to the size of the generation. Without one "
        "the source checkpoint generates it, with the same prompt, seed and sampler.",
    ),
    MASK: (
        LABELS[MASK],
        "Of the picture's proportions: where it is white, all is injected, where black, nothing, where grey, in part. "
        "Or put the picture itself here and paint on it.",
    ),
}
"""Label and help of the arguments that are pictures."""

UNPAINTED = (
    "Of the picture's proportions: where it is white, all is injected, where black, nothing, where grey, in part. "
    "Paint it in a program of your own; this page has no brush for it."
)
"""The region mask's help where pictures cannot be painted on."""

WORDS = {SAME_AS_TARGET: SAME_AS_TARGET_SHOWN, "authors": "as published"}
"""What the panel calls a value that a newcomer would not understand; in the API and the infotext it is itself."""

_PICTURE_HEIGHT = 260


def source_choices() -> list[str]:
    """What the source checkpoint may be: file names, which stay the same when a hash becomes known."""
    return [SAME_AS_TARGET, *_checkpoint_names()]


def mix_choices() -> list[str]:
    """What the target may be mixed, or its latents merged, with."""
    return [NO_MIX, *_checkpoint_names()]


def _checkpoint_names() -> list[str]:
    return sorted((info.name for info in installed()), key=str.casefold)


def vae_choices() -> list[str]:
    """What the source VAE may be."""
    return [AUTOMATIC, *sd_vae.vae_dict]


LISTS: dict[str, Callable[[], list[str]]] = {
    "source_checkpoint": source_choices,
    "source_vae": vae_choices,
    "mix_checkpoint": mix_choices,
    **dict.fromkeys(AGGREGATE, mix_choices),
}
"""Settings whose values are a list of the host's files."""


def in_panel(value: Any) -> Any:
    """A value of a list as the panel has it. Only a list of files has no values apart from what it shows."""
    return WORDS.get(value, value) if value == SAME_AS_TARGET else value


def control(name: str, elem_id: ElemId, *, is_img2img: bool) -> Any:
    """The control that a setting's kind asks for."""
    setting = TABLE[name]
    shared = {"label": setting.label, "info": setting.help, "value": setting.default, "elem_id": elem_id(name)}
    if name in LISTS:
        return _list_of_files(name, shared)
    if setting.kind is bool:
        return gr.Checkbox(**shared)
    if setting.choices is not None:
        return gr.Radio(choices=[(WORDS.get(one, one), one) for one in choices_in(setting, is_img2img)], **shared)
    if setting.kind in (int, float):
        return gr.Slider(minimum=setting.minimum, maximum=setting.maximum, step=setting.step, **shared)
    return gr.Textbox(lines=2, **shared)


def reset(name: str, component: Any, elem_id: ElemId) -> Any:
    """The button that sets a setting back; the page does it by itself. Its words are for screen readers."""
    button = gr.Button(
        f"Reset {TABLE[name].label}", size="sm", elem_classes=["ditail-reset"], elem_id=elem_id(f"{name}_reset")
    )
    default = json.dumps(in_panel(TABLE[name].default))
    button.click(fn=None, _js=f"() => ({default})", inputs=[], outputs=[component])
    return button


def choices_in(setting: Setting, is_img2img: bool) -> list[str]:
    """The choices that mean something in a tab: txt2img has no inpaint mask."""
    without = () if is_img2img else (INPAINT_REGION, OUTSIDE_REGION)
    return [choice for choice in setting.choices or () if choice not in without]


def picture(name: str, elem_id: ElemId, **more: Any) -> Any:
    """A place for a picture."""
    return gr.Image(
        label=PICTURES[name][0],
        type="pil",
        source="upload",
        image_mode="RGBA",
        height=_PICTURE_HEIGHT,
        elem_classes=["ditail-picture"],
        elem_id=elem_id(name),
        **more,
    )


def can_paint() -> bool:
    """Whether pictures can be painted on: gradio 4 has an editor for that, and its pictures no tools."""
    return not hasattr(gr, "ImageEditor")


def note(text: str, elem_id: str | None = None) -> Any:
    """A small text between controls."""
    return gr.HTML(f"<p>{text}</p>", elem_classes=["ditail-help"], elem_id=elem_id)


def unsaved(component: Any) -> Any:
    """The same, of which the host's ``ui-config.json`` keeps nothing: it is no setting."""
    component.do_not_save_to_config = True
    return component


def _list_of_files(name: str, shared: dict[str, Any]) -> Any:
    """A list with the host's button beside it that looks for new files."""

    def choices() -> list[str]:
        return [in_panel(choice) for choice in LISTS[name]()]

    with gr.Row(elem_classes=["ditail-list"]):
        dropdown = gr.Dropdown(choices=choices(), **{**shared, "value": in_panel(shared["value"])})
        refresh = sd_vae.refresh_vae_list if name == "source_vae" else sd_models.list_models
        create_refresh_button(dropdown, refresh, lambda: {"choices": choices()}, f"{dropdown.elem_id}_refresh")
    return dropdown
