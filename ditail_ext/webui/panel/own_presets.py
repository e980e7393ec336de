"""The presets' controls: one list to choose from, and a person's own to save, remove and share."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr

from ...errors import DitailError
from ...presets import BUILT_IN, PRESET_SETTINGS
from ...settings import TABLE
from ..request.presets import own_presets, preset_names, preset_values
from .controls import ElemId, in_panel, note, unsaved

CUSTOM = "as set below"
"""What the list says when the settings are no preset's."""


class PresetControls:
    """The list above, and what is folded away below; wired by :meth:`wire` once the settings' controls are there."""

    def __init__(self, choose: Any) -> None:
        self.choose = choose
        self._own: dict[str, Any] = {}

    @classmethod
    def build(cls, elem_id: ElemId) -> PresetControls:
        """The list."""
        with gr.Row(elem_classes=["ditail-row"]):
            choose = gr.Dropdown(
                choices=choices(),
                value="balanced",
                label="Preset",
                info="Sets the ratios, scales, layers, windows and weights together; one of them changed, this "
                f"says '{CUSTOM}'. Your own presets are at the end of the panel.",
                elem_id=elem_id("preset"),
            )
            reset = gr.Button("Reset all", size="sm", elem_id=elem_id("reset"))
        made = cls(unsaved(choose))
        made._own["reset"] = reset
        return made

    def build_own(self, elem_id: ElemId) -> None:
        """A person's own presets."""
        with gr.Accordion("Presets of your own", open=False, elem_id=elem_id("presets_section")):
            with gr.Row(elem_classes=["ditail-row"]):
                name = gr.Textbox("", label="Name of the preset", lines=1, elem_id=elem_id("preset_name"))
                self._own["name"] = unsaved(name)
                self._own["save"] = gr.Button("Save as a preset", size="sm", elem_id=elem_id("preset_save"))
                self._own["remove"] = gr.Button("Remove the preset", size="sm", elem_id=elem_id("preset_remove"))
            with gr.Row(elem_classes=["ditail-row"]):
                self._own["share"] = gr.Button("Give them to others", size="sm", elem_id=elem_id("preset_share"))
                self._own["file"] = gr.File(label="Presets file", file_types=[".json"], elem_id=elem_id("preset_file"))
            self._own["message"] = note("", elem_id("preset_message"))

    def wire(self, controls: dict[str, Any]) -> None:
        """Let the buttons do something, with the settings' controls by name."""
        own = self._own
        settings = [controls[name] for name in PRESET_SETTINGS]
        quiet = {"show_progress": False, "queue": False}
        self.choose.input(fn=chosen, inputs=[self.choose, *settings], outputs=settings, **quiet)
        every = [name for name in TABLE if name != "enabled"]
        own["reset"].click(
            fn=lambda: [in_panel(TABLE[name].default) for name in every],
            inputs=[],
            outputs=[controls[name] for name in every],
            **quiet,
        )
        told = [self.choose, own["message"]]
        own["save"].click(fn=save, inputs=[own["name"], *settings], outputs=told, **quiet)
        own["remove"].click(fn=remove, inputs=[own["name"]], outputs=told, **quiet)
        own["share"].click(fn=share, inputs=[], outputs=[own["file"]], **quiet)
        own["file"].upload(fn=add, inputs=[own["file"]], outputs=told, **quiet)


def choices() -> list[str]:
    """What the list offers; what a damaged file of saved presets holds is left out, and said where it is asked for."""
    try:
        return [*preset_names(), CUSTOM]
    except DitailError:
        return [*BUILT_IN, CUSTOM]


def name_of(values: dict[str, Any]) -> str:
    """The preset that these settings are, or that they are none."""
    wanted = {name: values[name] for name in PRESET_SETTINGS}
    return next((name for name in choices()[:-1] if preset_values(name) == wanted), CUSTOM)


def listed(shown: str, values: dict[str, Any]) -> str:
    """What the list is to say beside these settings, if it shows this.

    A list that names a preset never becomes another's name at once: one that was just chosen has yet to set its
    settings, and a list that says the old one again could not be told the new one.
    """
    name = name_of(values)
    return name if shown in (name, CUSTOM) else CUSTOM


def chosen(name: str, *settings: Any) -> list[Any]:
    """The settings' values of a preset, or those that they have."""
    return list(settings) if name == CUSTOM else list(preset_values(name).values())


def save(name: str, *settings: Any) -> tuple[Any, str]:
    """Keep the settings under a name."""
    try:
        own_presets().save(name, dict(zip(PRESET_SETTINGS, settings, strict=True)))
    except DitailError as error:
        return gr.update(), _said(str(error))
    return gr.update(choices=choices(), value=name.strip()), _said("Saved.")


def remove(name: str) -> tuple[Any, str]:
    """Forget one's own preset of a name."""
    try:
        own_presets().remove(name.strip())
    except DitailError as error:
        return gr.update(), _said(str(error))
    return gr.update(choices=choices(), value=CUSTOM), _said("Removed.")


def share() -> str:
    """The file to give to others."""
    return str(own_presets().ready())


def add(file: Any) -> tuple[Any, str]:
    """Take presets from a file."""
    if file is None:
        return gr.update(), _said("")
    try:
        names = own_presets().add(Path(file.name).read_text(encoding="utf-8"))
    except (DitailError, OSError, UnicodeDecodeError) as error:
        return gr.update(), _said(str(error))
    return gr.update(choices=choices()), _said(f"Added: {', '.join(names)}.")


def _said(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"
