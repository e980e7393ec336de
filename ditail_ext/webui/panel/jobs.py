"""What the panel's buttons set to work: jobs in the host's queue, with its progress bar, Interrupt and Skip."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from modules.call_queue import wrap_gradio_gpu_call

from ...errors import DitailError
from ...settings import TABLE, Settings
from ..advice import preview, suggestion
from ..advice.question import Question
from ..comparing import comparison
from ..failure import Ditail
from ..host.progress import InversionStopped
from ..request.arguments import from_panel
from ..request.pictures import PICTURE
from .layout import Panel

TOLD = ("prompt", "neg_prompt", "width", "height", "steps")
"""The host's controls that a job is told of, without their tab's name."""

_TASK = """(task, ...rest) => {
    const id = randomId(), tab = '%(tab)s';
    const place = gradioApp().getElementById(tab + '_gallery_container');
    showSubmitButtons(tab, false);
    requestProgress(id, place, null, () => showSubmitButtons(tab, true));
    return [id, ...rest.slice(0, -1), %(last)s];
}"""
"""A job of the host's; the last input is something that only the page knows."""

_MODE = "tab === 'img2img' ? get_tab_index('mode_img2img') : 0"
"""Which of img2img's tabs is open."""

_CHOSEN = "selected_gallery_index()"
"""Which of the finished pictures is selected."""

_INPAINT = 2
"""Number of the tab of img2img whose picture is another."""


class Jobs:
    """The jobs of one tab's panel, joined to the host's controls."""

    def __init__(self, panel: Panel, tab: str, host: Mapping[str, Any]) -> None:
        """
        Args:
            panel: of the tab.
            tab: ``txt2img`` or ``img2img``.
            host: the host's controls by their element's name.
        """
        self._panel, self._tab, self._host = panel, tab, host

    def join(self) -> None:
        """Let the buttons do something."""
        said, source = self._panel.said, self._panel.by_name["source_checkpoint"]
        about = self._about_the_picture()
        self._job(said.suggest, _on_question(_suggest), about, [source, said.suggestion], _MODE)
        self._job(said.preview, _on_question(_preview), about, [said.preview_sheet, said.preview_words], _MODE)
        finished = [self._host[f"generation_info_{self._tab}"]]
        outputs = [said.comparison, said.save_sheet, said.comparison_words]
        self._job(said.compare, self._compare, finished, outputs, _CHOSEN)
        said.save_sheet.click(
            fn=_save_sheet,
            _js="(info, _) => [info, selected_gallery_index()]",
            inputs=[*finished, said.facts],
            outputs=[said.comparison_words],
            show_progress=False,
        )

    def _about_the_picture(self) -> list[Any]:
        controls, host = self._panel.by_name, self._host
        img2img = self._tab == "img2img"
        pictures = [host["img2img_image"], host["img2maskimg"]] if img2img else [controls[PICTURE]] * 2
        return [*pictures, *(host[f"{self._tab}_{name}"] for name in TOLD), *(controls[name] for name in TABLE)]

    def _job(self, button: Any, work: Callable[..., Any], inputs: list[Any], outputs: list[Any], last: str) -> None:
        """Join a button; the last output is words, where the host adds the time that it took."""
        facts = self._panel.said.facts
        unchanged = [gr.update()] * (len(outputs) - 1)

        def do(_task: str, *values: Any) -> Any:
            try:
                return work(*values)
            except (DitailError, Ditail) as error:
                return *unchanged, _warning(error)
            except InversionStopped:
                return *unchanged, "<p>Stopped.</p>"

        button.click(
            fn=wrap_gradio_gpu_call(do, extra_outputs=unchanged),
            _js=_TASK % {"tab": self._tab, "last": last},
            inputs=[facts, *inputs, facts],
            outputs=outputs,
            show_progress=False,
        )

    def _compare(self, info: str, index: Any) -> tuple[Any, ...]:
        run = comparison.compare(_infotext(info, index))
        return comparison.in_html(run, f"ditail_{self._tab}_compare"), gr.update(visible=True), ""


def _warning(error: Exception) -> str:
    return f'<p class="ditail-warning">{html.escape(str(error))}</p>'


@dataclass(frozen=True)
class _Asked:
    """What a job is asked, from the page."""

    question: Question
    settings: Settings
    steps: int

    @classmethod
    def of(cls, given: Sequence[Any], *, in_mask: bool) -> _Asked:
        picture, masked, prompt, negative, width, height, steps, *values = given
        if in_mask and masked is not None:
            picture = masked.get("image") if isinstance(masked, dict) else masked  # in Forge it is the picture itself
        settings = Settings.from_mapping(from_panel(values))
        question = Question.of(picture, (prompt, negative), (int(width), int(height)), settings)
        return cls(question, settings, int(steps))


def _on_question(work: Callable[[_Asked], Any]) -> Callable[..., Any]:
    """A job on what the page has about a picture; the last value is the open tab of img2img."""

    def do(*values: Any) -> Any:
        *given, mode = values
        return work(_Asked.of(given, in_mask=int(mode or 0) == _INPAINT))

    return do


def _suggest(asked: _Asked) -> tuple[Any, str]:
    found = suggestion.suggest(asked.question)
    return gr.update() if found.best is None else gr.update(value=found.best), suggestion.in_words(found)


def _preview(asked: _Asked) -> tuple[Any, str]:
    found = preview.preview(asked.question, asked.settings, asked.steps)
    return gr.update(value=found.sheet, visible=True), preview.in_words(found)


def _infotext(info: str, index: Any) -> str:
    """The infotext of the picture that is selected in the gallery, or of the first one that is no grid."""
    try:
        told = json.loads(info or "{}")
        infotexts = told.get("infotexts") or [""]
        first = int(told.get("index_of_first_image") or 0)
    except (ValueError, AttributeError, TypeError):
        return ""
    wanted = index if isinstance(index, int) and first <= index < len(infotexts) else first
    return str(infotexts[wanted]) if wanted < len(infotexts) else ""


def _save_sheet(info: str, index: Any) -> str:
    try:
        return f"<p>Saved: {html.escape(comparison.save(_infotext(info, index)))}</p>"
    except DitailError as error:
        return _warning(error)
