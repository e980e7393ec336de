"""What the panel does when something is pressed: joined to the host's own controls once all of them are there."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from ...errors import DitailError
from ...settings import EVERYWHERE, MASK_REGION, TABLE, Settings
from ..advice import origin as origins
from ..advice.sentence import Said, say
from ..advice.situation import read_facts, situation_of
from ..request.arguments import from_panel
from ..request.pictures import MASK, PICTURE
from .controls import can_paint, in_panel
from .jobs import TOLD, Jobs
from .layout import Panel, badge, numbered
from .own_presets import listed

_QUIET = {"show_progress": False, "queue": False}

_FACTS = "(facts, ...rest) => [window.ditailFacts ? ditailFacts('%s') : facts, ...rest]"
"""What the page knows goes along; without ``javascript/ditail.js`` nothing does."""

_CANVAS = "logical_image_background"
"""Class of the control with the picture of Forge's editor; the page draws it in a piece of HTML made just before."""

HOST = {
    True: ("img2img_image", "img2maskimg", "generation_info_img2img", *(f"img2img_{name}" for name in TOLD)),
    False: ("generation_info_txt2img", *(f"txt2img_{name}" for name in TOLD)),
}
"""The host's controls that the panel reads or fills in, by whether the tab is img2img."""


class Wiring:
    """One tab's panel and the host's controls, joined once they are all there: a user may have changed their order."""

    def __init__(self, *, is_img2img: bool) -> None:
        self._img2img = is_img2img
        self._tab = "img2img" if is_img2img else "txt2img"
        self._host: dict[str, Any] = {}
        self._canvas: str | None = None
        self._panel: Panel | None = None

    def panel_is(self, panel: Panel) -> None:
        """A panel was built; the last one that was is joined to what comes after it."""
        self._panel = panel

    def host_has(self, component: Any) -> None:
        """The host has made a control of its own; to be called where it is made, within the page."""
        name = component.elem_id
        if _CANVAS in (getattr(component, "elem_classes", None) or ()):
            name, self._canvas = self._canvas, None
        elif name in HOST[self._img2img] and isinstance(component, gr.HTML):
            name, self._canvas = None, name
        if name in HOST[self._img2img]:
            self._host[name] = component
        self._join()

    def _join(self) -> None:
        panel = self._panel
        if panel is None or set(self._host) != set(HOST[self._img2img]):
            return
        self._panel = None
        self._sentence(panel)
        Jobs(panel, self._tab, self._host).join()
        self._origin(panel)
        self._region(panel)
        panel.presets.wire(panel.by_name)

    def _sentence(self, panel: Panel) -> None:
        controls, said = panel.by_name, panel.said
        event = {
            "fn": self._say,
            "_js": _FACTS % self._tab,
            "inputs": [said.facts, panel.presets.choose, *(controls[name] for name in TABLE)],
            "outputs": [said.sentence, said.badge, panel.presets.choose],
            **_QUIET,
        }
        said.ask.click(**event)
        controls["enabled"].change(**event)
        controls["source_checkpoint"].change(**event)

    def _say(self, facts: str, preset: str, *values: Any) -> tuple[str, str, Any]:
        """The sentence, the badge and the preset that the settings are: HTML twice, and an update.

        A list that is right is left alone: the person may have chosen another entry while this is on its way.
        """
        named, known = from_panel(values), read_facts(facts)
        try:
            settings = Settings.from_mapping(named)
            said = say(situation_of(settings, known, img2img=self._img2img))
        except DitailError as error:
            sentence = f'<p class="ditail-warning">{html.escape(str(error))}</p>'
            return numbered(sentence, known), badge(""), gr.update()
        shown = said.badge if settings.enabled else ""
        name = listed(preset, named)
        return (
            numbered(in_html(said, self._tab), known),
            badge(shown),
            gr.update() if name == preset else gr.update(value=name),
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
        for event in (mask.upload, *([mask.edit] if can_paint() else [])):
            event(fn=_region_with_mask, inputs=[region], outputs=[region], **_QUIET)
        if panel.said.paint is not None:
            panel.said.paint.click(
                fn=lambda picture: (picture, MASK_REGION),
                inputs=[self._host["img2img_image"]],
                outputs=[mask, region],
                **_QUIET,
            )


def in_html(said: Said, tab: str) -> str:
    """What is said, and a style: controls without effect look so, changed ones show how to set them back."""
    warnings = "".join(f'<li class="ditail-warning">{text}</li>' for text in said.warnings)
    notes = "".join(f"<li>{text}</li>" for text in said.notes)
    prefix = f"#script_{tab}_ditail_"
    choices = [f'{prefix}region label:has(input[value="{name}"])' for name in said.out_of_place]
    style = _rule([prefix + name for name in sorted(said.inert)], "opacity: 0.45")
    style += _rule([f"{prefix}{name}_reset" for name in sorted(said.changed)], "opacity: 0.8")
    style += _rule(choices, "display: none")
    return f'<div role="status"><p>{said.doing}</p><ul>{warnings}{notes}</ul></div><style>{style}</style>'


def _rule(selectors: list[str], what: str) -> str:
    return f"{', '.join(selectors)} {{ {what}; }} " if selectors else ""


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
