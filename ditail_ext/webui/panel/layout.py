"""The panel, from top to bottom: what will happen, what is used most, and the rest folded away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from modules.infotext_utils import PasteField
from modules.ui_components import InputAccordion

from ... import __version__
from ...setting import Group, Section
from ...settings import TABLE
from ..cache import memory as cache
from ..request.arguments import ARGUMENTS
from ..request.pictures import MASK, PICTURE
from .controls import PICTURES, UNPAINTED, ElemId, can_paint, control, in_panel, note, picture, reset, unsaved
from .own_presets import PresetControls
from .paste import paste

_OPEN = """on => {
    setTimeout(() => {
        const bar = gradioApp().querySelector('#%s > .label-wrap');
        if (on && bar && !bar.classList.contains('open')) bar.click();
    }, 100);
}"""
"""A ticked box opens the panel. The host's own box does so only when the title beside it is clicked, or when it is
pasted to: a moment later, for then the host is opening it."""


BUTTONS = {
    "suggest": "Suggest a source",
    "preview": "Preview the inversion",
    "compare": "Compare the result",
}
"""What one may ask before a picture is made, and after."""


@dataclass(frozen=True)
class Said:
    """Where the panel says something, and buttons that make it say more.

    Attributes:
        sentence: what will happen.
        badge: source and target, in the title.
        facts: carries what the page knows.
        ask: a hidden button; the page presses it when something has changed.
        suggest: starts the search for a source.
        suggestion: its answer.
        preview: starts a preview of the inversion.
        preview_sheet: the picture, what comes back of it, and the difference.
        preview_words: how large that is, and why.
        compare: makes the target's own picture beside a finished one.
        comparison: content, that, and the result under a slider.
        save_sheet: saves them as a contact sheet.
        comparison_words: where, or what is in the way.
        origin: what the picture says of its origin.
        use_origin: takes that.
        paint: puts the tab's picture under the region mask; ``None`` in txt2img, and where it cannot be painted on.
    """

    sentence: Any
    badge: Any
    facts: Any
    ask: Any
    suggest: Any
    suggestion: Any
    preview: Any
    preview_sheet: Any
    preview_words: Any
    compare: Any
    comparison: Any
    save_sheet: Any
    comparison_words: Any
    origin: Any
    use_origin: Any
    paint: Any = None


@dataclass(frozen=True)
class Panel:
    """What the host wants to know of a script's controls, and what the wiring does.

    Attributes:
        components: the script's arguments in their order.
        infotext_fields: what fills them from an infotext.
        said: where the panel says something.
        presets: the presets' controls.
        paste_field_names: infotext keys that "Send to img2img" carries along; none, for what it sends is Ditail's
            result and not the picture to keep the structure of.
    """

    components: list[Any]
    infotext_fields: list[PasteField]
    said: Said
    presets: PresetControls
    paste_field_names: list[str] = field(default_factory=list)

    @property
    def by_name(self) -> dict[str, Any]:
        """The arguments' controls by name."""
        return dict(zip(ARGUMENTS, self.components, strict=False))


def build_panel(is_img2img: bool, elem_id: ElemId) -> Panel:
    """Build one tab's panel. The host calls this several times for a tab: nothing is remembered."""
    controls: dict[str, Any] = {}
    said: dict[str, Any] = {}
    with InputAccordion(False, label=TABLE["enabled"].label, elem_id=elem_id("enabled")) as controls["enabled"]:
        with controls["enabled"].extra():
            said["badge"] = gr.HTML(badge(""), elem_classes=["ditail-badge"], elem_id=elem_id("badge"))
        said["sentence"] = gr.HTML(_help_of("enabled"), elem_classes=["ditail-sentence"], elem_id=elem_id("sentence"))
        said["facts"] = unsaved(gr.Textbox("", visible=False, label="Facts", elem_id=elem_id("facts")))
        said["ask"] = gr.Button("Ask", visible=False, elem_id=elem_id("ask"))
        _content(controls, elem_id, is_img2img=is_img2img)
        _source(controls, said, elem_id, is_img2img=is_img2img)
        presets = PresetControls.build(elem_id)
        _row(Group.RATIOS, controls, elem_id, is_img2img=is_img2img)
        for section in (section for section in Section if section is not Section.TOP):
            with gr.Accordion(section.value, open=False, elem_id=elem_id(f"{section.name.lower()}_section")):
                for group in (group for group in Group if group.section is section):
                    _row(group, controls, elem_id, is_img2img=is_img2img)
                if section is Section.REGION:
                    _mask(controls, said, elem_id, is_img2img=is_img2img)
                if section is Section.ADVANCED:
                    _clear_button(elem_id)
        presets.build_own(elem_id)
    controls["enabled"].change(fn=None, _js=_OPEN % elem_id("enabled"), inputs=[controls["enabled"]])
    names = [name for name in ARGUMENTS if name in controls]
    pastes = [PasteField(controls[name], _pasted(name)) for name in names if name in TABLE]
    return Panel([controls[name] for name in names], pastes, Said(**said), presets)


def badge(text: str) -> str:
    """What the title has beside the name: HTML."""
    return f'<span class="ditail-version">{__version__}</span> <span>{text}</span>'


def numbered(answer: str, facts: Mapping[str, Any]) -> str:
    """An answer with the number of its question, by which the page knows which of its questions were dropped."""
    number = facts.get("number")
    return f'<div data-number="{number}">{answer}</div>' if isinstance(number, int) else answer


def _pasted(name: str) -> Any:
    value = paste(TABLE[name])
    return lambda params: in_panel(value(params))


def _help_of(name: str) -> str:
    return f"<p>{TABLE[name].help}</p>"


def _row(group: Group, controls: dict[str, Any], elem_id: ElemId, *, is_img2img: bool) -> None:
    with gr.Row(elem_classes=["ditail-row"]):
        _settings(group, controls, elem_id, is_img2img=is_img2img)


def _settings(group: Group, controls: dict[str, Any], elem_id: ElemId, *, is_img2img: bool) -> None:
    """A group's controls, each with a button that sets it back."""
    for name in _names(group):
        with gr.Column(elem_classes=["ditail-setting"], min_width=160):
            controls[name] = control(name, elem_id, is_img2img=is_img2img)
            reset(name, controls[name], elem_id)


def _names(group: Group) -> list[str]:
    return [name for name, setting in TABLE.items() if setting.group is group]


def _content(controls: dict[str, Any], elem_id: ElemId, *, is_img2img: bool) -> None:
    """Txt2img's content picture and what is about it; img2img only has the arguments, for their positions."""
    if not is_img2img:
        controls[PICTURE] = picture(PICTURE, elem_id)
        note(PICTURES[PICTURE][1])
    with gr.Row(elem_classes=["ditail-row"], visible=not is_img2img):
        _settings(Group.CONTENT, controls, elem_id, is_img2img=is_img2img)


def _source(controls: dict[str, Any], said: dict[str, Any], elem_id: ElemId, *, is_img2img: bool) -> None:
    _row(Group.SOURCE, controls, elem_id, is_img2img=is_img2img)
    with gr.Row(elem_classes=["ditail-origin"]):
        said["origin"] = gr.HTML("", elem_classes=["ditail-help"], elem_id=elem_id("origin"))
        said["use_origin"] = gr.Button(
            "Use it as source, with its prompt", size="sm", visible=False, elem_id=elem_id("use_origin")
        )
    with gr.Row(elem_classes=["ditail-buttons"]):
        for name, text in BUTTONS.items():
            said[name] = gr.Button(text, size="sm", elem_id=elem_id(name))
    said["suggestion"] = _words("suggestion", elem_id)
    sheet = {"label": "What the inversion keeps", "show_label": False, "elem_id": elem_id("preview_sheet")}
    said["preview_sheet"] = unsaved(gr.Image(visible=False, interactive=False, **sheet))
    said["preview_words"] = _words("preview_words", elem_id)
    said["comparison"] = _words("comparison", elem_id)
    said["save_sheet"] = gr.Button(
        "Save as a contact sheet",
        size="sm",
        visible=False,
        elem_classes=["ditail-small"],
        elem_id=elem_id("save_sheet"),
    )
    said["comparison_words"] = _words("comparison_words", elem_id)


def _words(name: str, elem_id: ElemId) -> Any:
    """A place for what a button has found out."""
    return gr.HTML("", elem_classes=["ditail-words"], elem_id=elem_id(name))


def _mask(controls: dict[str, Any], said: dict[str, Any], elem_id: ElemId, *, is_img2img: bool) -> None:
    if is_img2img and can_paint():
        said["paint"] = gr.Button(
            "Paint on this picture", size="sm", elem_classes=["ditail-small"], elem_id=elem_id("paint")
        )
    tools = {"tool": "sketch", "brush_color": "#ffffff"} if can_paint() else {}
    controls[MASK] = picture(MASK, elem_id, **tools)
    note(PICTURES[MASK][1] if can_paint() else UNPAINTED)


def _clear_button(elem_id: ElemId) -> None:
    with gr.Row():
        button = gr.Button("Clear cache", size="sm", elem_id=elem_id("clear_cache"))
        message = note("Inversions are kept for the next generation from the same picture.")
    button.click(fn=_clear, inputs=[], outputs=[message], show_progress=False)


def _clear() -> str:
    cache.clear()
    return "<p>The kept inversions are cleared.</p>"
