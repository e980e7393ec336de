"""The panel in another language, by the WebUI's own mechanism: every one of its strings is in the file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from harness.installed import REPOSITORY
from harness.pages.browser import missing
from harness.pages.page import Page
from harness.pages.panel import enable

pytestmark = [pytest.mark.server("german"), pytest.mark.skipif(missing() is not None, reason=str(missing()))]

SHOTS = os.environ.get("DITAIL_SCREENSHOTS")
GERMAN = json.loads((REPOSITORY / "localizations" / "de_DE.json").read_text("utf-8"))

OTHERS = {"Ditail", "Facts", "Ask", "-", "or", "Drop Image Here", "Click to Upload", "Drop File Here", "Clear"}
"""Strings that are a name, never seen, or gradio's."""

STRINGS = """
const found = new Set(), root = gradioApp().querySelector(arguments[0]);
const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const said = node.parentElement.closest('style, script, .ditail-sentence, .ditail-badge, .wrap-inner, ul.options')
        || node.parentElement.closest('.wrap.default'); // gradio's own time
    const text = node.textContent.trim();
    if (text && !said && /[a-z]/i.test(text)) found.add(text);
}
for (const one of root.querySelectorAll('[title]')) {
    if (one.title && !one.closest('.wrap-inner, .ditail-sentence, .ditail-badge')) found.add(one.title);
}
return [...found];
"""
"""All texts and titles of an element, but for the sentence, checkpoints' names and lists."""


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_every_string_of_the_panel_is_german(page: Page, tab: str, tmp_path: Path):
    enable(page, tab)
    strings = page.run(STRINGS, f"#script_{tab}_ditail_enabled")
    page.shoot(f"#script_{tab}_ditail_enabled", Path(SHOTS or tmp_path) / f"panel-german-{tab}.png")
    assert "Quelle vorschlagen" in strings
    assert "Merkmal-Anteil" in strings
    unknown = [text for text in strings if text not in {*GERMAN.values(), *OTHERS}]
    assert unknown == [], "localizations/de_DE.json lacks these"
