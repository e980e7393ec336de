"""A WebUI's page in a browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

READY = """
const app = window.gradioApp ? gradioApp() : document;
return window.leaves === undefined
    && app.querySelector('#txt2img_generate') !== null
    && app.querySelector('#setting_sd_model_checkpoint, .model_selection') !== null
    && app.querySelector('#script_img2img_ditail_enabled') !== null;
"""

DRAWN = """
const picture = gradioApp().querySelector(arguments[0] + ' img');
return picture !== null && picture.complete && picture.naturalWidth > 0;
"""

UNSIZED = """
return [...gradioApp().querySelectorAll(arguments[0])].some((one) => one.style.width === "");
"""
"""Canvases before the picture under them has come; painted then, their 300 by 150 are the mask's size."""

STEADY = """
const place = (one) => Object.values(one.getBoundingClientRect().toJSON()).join();
const [element, done] = arguments, before = place(element);
requestAnimationFrame(() => requestAnimationFrame(() => done(place(element) === before)));
"""
"""Whether an element stays where it is for two frames: one that moves is missed by the mouse."""

LISTEN = """
const element = arguments[0];
window.clickIsHere = null;
document.addEventListener("click", function listen(event) {
    if (!event.isTrusted) return;
    window.clickIsHere = element.contains(event.target);
    document.removeEventListener("click", listen, true);
}, true);
"""
"""Notes where the mouse's next click goes: the page may move between its coming and its click."""

PRESS = """
const item = gradioApp().querySelector(arguments[0]);
item?.dispatchEvent(new MouseEvent('mousedown', {bubbles: true}));
return item !== null;
"""
"""Found and pressed at once, for the list may be drawn anew between the two."""

SET_VALUE = """
const input = gradioApp().querySelector(arguments[0]);
input.value = arguments[1];
input.dispatchEvent(new Event('input', {bubbles: true}));
input.dispatchEvent(new Event('change', {bubbles: true}));
"""


def wait(condition: Callable[[], Any], what: str, limit: float = 120) -> Any:
    """Ask again until there is an answer.

    Raises:
        AssertionError: there was none within ``limit`` seconds.
    """
    answer = ask(condition, limit)
    if not answer:
        raise AssertionError(f"waited {limit} s for {what}")
    return answer


def ask(condition: Callable[[], Any], limit: float) -> Any:
    """Ask again until there is an answer; the last one if there was none within ``limit`` seconds."""
    end = time.monotonic() + limit
    while not (answer := condition()) and time.monotonic() < end:
        time.sleep(0.2)
    return answer


class Page:
    """The WebUI's page in a browser."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url
        # a window that another browser's lies over has no focus, and its drop-downs never open
        driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})

    def open(self) -> Page:
        """Load the page, or load it again; what it logged before is forgotten."""
        self.driver.get_log("browser")
        self.run("window.leaves = true")  # the browser may answer for the page that was there a little longer
        self.driver.get(self.url)
        wait(self._ready, "the page")
        time.sleep(2)  # its scripts attach themselves to what has just been drawn
        return self

    def run(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def tab(self, name: str) -> None:
        """Show ``txt2img`` or ``img2img``."""
        self.run(f"switch_to_{name}()")
        wait(lambda: self.run("return get_uiCurrentTabContent().id") == f"tab_{name}", f"tab {name}")

    def click(self, selector: str) -> None:
        self.run("gradioApp().querySelector(arguments[0]).click()", selector)

    def set(self, selector: str, value: object) -> None:
        """Type into a control."""
        self.run(SET_VALUE, selector, value)
        time.sleep(0.2)

    def options(self, selector: str) -> list[str]:
        """What a drop-down offers."""
        self.run("gradioApp().querySelector(arguments[0]).focus()", f"{selector} input")
        script = "return [...gradioApp().querySelectorAll(arguments[0])].map(item => item.ariaLabel)"
        found = wait(lambda: self.run(script, f"{selector} ul.options li"), "the choices", 10)
        self.run("gradioApp().querySelector(arguments[0]).blur()", f"{selector} input")
        return found

    def choose(self, selector: str, option: str) -> None:
        """Take an entry of a drop-down, as the mouse does."""
        self.press(selector, option)
        wait(lambda: self.value(f"{selector} input") == option, f"{option} to be chosen", 10)

    def press(self, selector: str, option: str) -> None:
        """The mouse on an entry of a drop-down."""
        item = f"{selector} ul.options li[aria-label='{option}']"
        again = "const input = gradioApp().querySelector(arguments[0]); input.blur(); input.focus()"
        self.run(again, f"{selector} input")
        # on a busy machine the first focus may come before the page listens to it, and the list be drawn once more
        wait(lambda: self.run(PRESS, item) or self.run(again, f"{selector} input"), f"the choice {option}", 60)

    def upload(self, selector: str, file: Path) -> None:
        """Give a picture to a control."""
        from selenium.webdriver.common.by import By

        self.driver.find_element(By.CSS_SELECTOR, f"{selector} input[type=file]").send_keys(str(file))
        wait(lambda: self.run(DRAWN, selector), "the picture to be shown", 60)
        time.sleep(1)  # what can be painted on takes its value from the canvas, after the picture

    def generate(
        self, tab: str, started: Callable[[], Any], what: str, press: Callable[[], None] | None = None
    ) -> Any:
        """Click Generate and wait until it has ``started``, or shown; an error of the request ends the test with it.

        A click that had no effect, nor an error, is repeated: a busy page may have been drawing itself anew. ``press``
        is another way to click.
        """
        press = press or (lambda: self.click(f"#{tab}_generate"))

        def answer() -> Any:
            found = started()
            if not found and (error := self.text(f"#html_log_{tab} .error")):
                raise AssertionError(f"{error} (while waiting for {what})")
            return found

        press()
        time.sleep(0.3)
        if not ask(lambda: answer() or self.visible(f"#{tab}_interrupt"), 6):  # the page itself shows it, at once
            press()
        if not (found := ask(answer, 120)):
            places = (f"#html_log_{tab}", f"#{tab}_gallery_container .progress", f"#script_{tab}_ditail_sentence")
            shown = {place: self.text(place) for place in places} | {"runs": self.visible(f"#{tab}_interrupt")}
            raise AssertionError(f"waited 120 s for {what}; the page shows {shown}; {self.severe()}")
        return found

    def paint(self, selector: str, across: float, down: float) -> None:
        """Draw one line over a sketch, from its middle, in parts of its width and height."""
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.by import By

        canvas = wait(lambda: self._canvas(By.CSS_SELECTOR, f"{selector} canvas"), "something to paint on", 20)
        size = canvas.size
        move = ActionChains(self.driver).move_to_element(canvas).click_and_hold()
        for part in (0.25, 0.5, 0.75, 1.0):
            move = move.move_to_element_with_offset(
                canvas, round(across * part * size["width"]), round(down * part * size["height"])
            )
        move.release().perform()
        time.sleep(0.5)

    def _canvas(self, by: str, selector: str) -> Any:
        """The sketch's uppermost layer, which takes the mouse."""
        found = [element for element in self.driver.find_elements(by, selector) if element.size["width"] > 0]
        found = [] if self.run(UNSIZED, selector) else found
        return max(found, key=lambda element: int(element.value_of_css_property("z-index") or 0), default=None)

    def value(self, selector: str) -> Any:
        return self.run("return gradioApp().querySelector(arguments[0]).value", selector)

    def checked(self, selector: str) -> bool:
        return self.run("return gradioApp().querySelector(arguments[0]).checked", selector)

    def visible(self, selector: str) -> bool:
        shown = "const e = gradioApp().querySelector(arguments[0]); return e !== null && e.offsetParent !== null"
        return self.run(shown, selector)

    def text(self, selector: str) -> str:
        return self.run("return gradioApp().querySelector(arguments[0])?.innerText || ''", selector)

    def shoot(self, selector: str, file: Path) -> None:
        """A picture of one element."""
        from selenium.webdriver.common.by import By

        file.parent.mkdir(parents=True, exist_ok=True)
        self.driver.find_element(By.CSS_SELECTOR, selector).screenshot(str(file))

    def severe(self) -> list[str]:
        """Errors in the console, but for those of other hosts that could not be reached."""
        entries = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [text for text in entries if self.url in text or "://" not in text.split(" ", 1)[0]]

    def _ready(self) -> bool:
        from selenium.common.exceptions import WebDriverException

        try:
            return bool(self.run(READY))
        except WebDriverException:
            return False
