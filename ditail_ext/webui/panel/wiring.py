"""What the panel does when something is pressed: joined to the host's own controls once all of them are there."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from modules.call_queue import wrap_gradio_gpu_call

from ...errors import DitailError
from ...settings import EVERYWHERE, MASK_REGION, TABLE, Settings
from ..advice import origin as origins
from ..advice import preview, suggestion
from ..advice.question import Question
from ..advice.sentence import Said, say
from ..advice.situation import read_facts, situation_of
from ..host.progress import InversionStopped
from ..request.arguments import from_panel
from ..request.pictures import MASK, PICTURE
from .controls import in_panel
from .layout import Panel, badge
from .own_presets import name_of

_QUIET = {"show_progress": False, "queue": False}

_FACTS = "(facts, ...rest) => [window.ditailFacts ? ditailFacts('%s') : facts, ...rest]"
"""What the page knows goes along; without ``javascript/ditail.js`` nothing does."""

_TASK = """(task, ...rest) => {
    const id = randomId(), tab = '%(tab)s';
    const place = gradioApp().getElementById(tab + '_gallery_container');
    showSubmitButtons(tab, false);
    requestProgress(id, place, null, () => showSubmitButtons(tab, true));
    return [id, ...rest.slice(0, -1), tab === 'img2img' ? get_tab_index('mode_img2img') : 0];
}"""
"""A job of the host's, with progress bar, Interrupt and Skip; the last input is which of img2img's tabs is open."""

_INPAINT = 2
"""Number of the tab of img2img whose picture is another."""

_TOLD = ("prompt", "neg_prompt", "width", "height", "steps")

HOST = {
    True: ("img2img_image", "img2maskimg", *(f"img2img_{name}" for name in _TOLD)),
    False: tuple(f"txt2img_{name}" for name in _TOLD),
}
"""The host's controls that the panel reads or fills in, by whether the tab is img2img."""


class Wiring:
    """One tab's panel and the host's controls, joined once they are all there: a user may have changed their order."""

    def __init__(self, *, is_img2img: bool) -> None:
        self._img2img = is_img2img
        self._tab = "img2img" if is_img2img else "txt2img"
        self._host: dict[str, Any] = {}
        self._panel: Panel | None = None

    def panel_is(self, panel: Panel) -> None:
        """A panel was built; the last one that was is joined to what comes after it."""
        self._panel = panel

    def host_has(self, component: Any) -> None:
        """The host has made a control of its own; to be called where it is made, within the page."""
        if component.elem_id in HOST[self._img2img]:
            self._host[component.elem_id] = component
        self._join()

    def _join(self) -> None:
        panel = self._panel
        if panel is None or set(self._host) != set(HOST[self._img2img]):
            return
        self._panel = None
        self._sentence(panel)
        self._jobs(panel)
        self._origin(panel)
        self._region(panel)
        panel.presets.wire(panel.by_name)

    def _sentence(self, panel: Panel) -> None:
        controls, said = panel.by_name, panel.said
        event = {
            "fn": self._say,
            "_js": _FACTS % self._tab,
            "inputs": [said.facts, *(controls[name] for name in TABLE)],
            "outputs": [said.sentence, said.badge, panel.presets.choose],
            **_QUIET,
        }
        said.ask.click(**event)
        controls["enabled"].change(**event)
        controls["source_checkpoint"].change(**event)

    def _say(self, facts: str, *values: Any) -> tuple[str, str, Any]:
        """The sentence, the badge and the preset that the settings are: HTML twice, and an update."""
        named = from_panel(values)
        try:
            settings = Settings.from_mapping(named)
            said = say(situation_of(settings, read_facts(facts), img2img=self._img2img))
        except DitailError as error:
            return f'<p class="ditail-warning">{html.escape(str(error))}</p>', badge(""), gr.update()
        shown = said.badge if settings.enabled else ""
        return in_html(said, self._tab), badge(shown), gr.update(value=name_of(named))

    def _jobs(self, panel: Panel) -> None:
        """What takes a while, and the source's work: in the host's queue."""
        said, source = panel.said, panel.by_name["source_checkpoint"]
        self._job(panel, said.suggest, _suggest, [source, said.suggestion])
        self._job(panel, said.preview, _preview, [said.preview_sheet, said.preview_words])

    def _job(self, panel: Panel, button: Any, work: Callable[..., Any], outputs: list[Any]) -> None:
        controls, host = panel.by_name, self._host
        pictures = [host["img2img_image"], host["img2maskimg"]] if self._img2img else [controls[PICTURE]] * 2
        told = [host[f"{self._tab}_{name}"] for name in _TOLD]
        settings = [controls[name] for name in TABLE]

        def do(_task: str, *values: Any) -> Any:
            *given, mode = values
            try:
                return work(_Asked.of(given, in_mask=int(mode or 0) == _INPAINT))
            except DitailError as error:
                return gr.update(), f'<p class="ditail-warning">{html.escape(str(error))}</p>'
            except InversionStopped:
                return gr.update(), "<p>Stopped.</p>"

        button.click(
            fn=wrap_gradio_gpu_call(do, extra_outputs=[gr.update()]),
            _js=_TASK % {"tab": self._tab},
            inputs=[panel.said.facts, *pictures, *told, *settings, panel.said.facts],
            outputs=outputs,
            show_progress=False,
        )

    def _origin(self, panel: Panel) -> None:
        controls, host, said = panel.by_name, self._host, panel.said
        picture = host["img2img_image"] if self._img2img else controls[PICTURE]
        picture.change(fn=_origin, inputs=[picture], outputs=[said.origin, said.use_origin], **_QUIET)
        prompts = [host[f"{self._tab}_prompt"], host[f"{self._tab}_neg_prompt"]]
        inversion = [controls["inversion_prompt"], controls["inversion_negative_prompt"]]
        said.use_origin.click(
            fn=_use_origin,
            inputs=[picture, *prompts],
            outputs=[controls["source_checkpoint"], *prompts, *inversion],
            **_QUIET,
        )

    def _region(self, panel: Panel) -> None:
        controls = panel.by_name
        region, mask = controls["region"], controls[MASK]
        for event in (mask.upload, mask.edit):
            event(fn=_region_with_mask, inputs=[region], outputs=[region], **_QUIET)
        if panel.said.paint is not None:
            panel.said.paint.click(
                fn=lambda picture: (picture, MASK_REGION),
                inputs=[self._host["img2img_image"]],
                outputs=[mask, region],
                **_QUIET,
            )


def in_html(said: Said, tab: str) -> str:
    """What is said, and a style by which controls without effect look so."""
    warnings = "".join(f'<li class="ditail-warning">{text}</li>' for text in said.warnings)
    notes = "".join(f"<li>{text}</li>" for text in said.notes)
    inert = ", ".join(f"#script_{tab}_ditail_{name}" for name in sorted(said.inert))
    style = f"<style>{inert} {{ opacity: 0.45; }}</style>" if inert else ""
    return f'<div role="status"><p>{said.doing}</p><ul>{warnings}{notes}</ul></div>{style}'


@dataclass(frozen=True)
class _Asked:
    """What a job is asked, from the page."""

    question: Question
    settings: Settings
    steps: int

    @classmethod
    def of(cls, given: Sequence[Any], *, in_mask: bool) -> _Asked:
        picture, masked, prompt, negative, width, height, steps, *values = given
        if in_mask and isinstance(masked, dict):
            picture = masked.get("image")
        settings = Settings.from_mapping(from_panel(values))
        question = Question.of(picture, (prompt, negative), (int(width), int(height)), settings)
        return cls(question, settings, int(steps))


def _suggest(asked: _Asked) -> tuple[Any, str]:
    found = suggestion.suggest(asked.question)
    return gr.update() if found.best is None else gr.update(value=found.best), suggestion.in_words(found)


def _preview(asked: _Asked) -> tuple[Any, str]:
    found = preview.preview(asked.question, asked.settings, asked.steps)
    return gr.update(value=found.sheet, visible=True), preview.in_words(found)


def _origin(picture: Any) -> tuple[str, Any]:
    found = origins.origin_of(picture)
    if found is None:
        return "", gr.update(visible=False)
    return f"<p>{origins.in_words(found)}</p>", gr.update(visible=found.checkpoint is not None)


def _use_origin(picture: Any, prompt: str, negative: str) -> tuple[Any, ...]:
    """The source that the picture names; its prompt is the main one where there is none, else the inversion's."""
    found = origins.origin_of(picture)
    keep = gr.update()
    if found is None or found.checkpoint is None:
        return (keep,) * 5
    source = gr.update(value=in_panel(found.checkpoint))
    if not prompt.strip():
        return source, found.prompt, negative.strip() or found.negative_prompt, "", ""
    if (prompt.strip(), negative.strip()) == (found.prompt.strip(), found.negative_prompt.strip()):
        return source, keep, keep, "", ""
    return source, keep, keep, found.prompt, found.negative_prompt


def _region_with_mask(region: str) -> str:
    """Who gives a mask means it."""
    return MASK_REGION if region == EVERYWHERE else region
