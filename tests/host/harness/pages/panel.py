"""Ditail's panel in the page: its controls by their names, and a generation by a click."""

from __future__ import annotations

from .page import Page, wait


def control(tab: str, name: str, kind: str = "input") -> str:
    """Selector of a setting's control."""
    return f"#script_{tab}_ditail_{name} {kind}"


def number(tab: str, name: str) -> str:
    """Selector of the number beside a slider."""
    return control(tab, name, "input[type=number]")


def enable(page: Page, tab: str) -> None:
    """Go to the tab and open the panel."""
    page.tab(tab)
    page.click(control(tab, "enabled", ".label-wrap"))
    wait(lambda: page.visible(f"#script_{tab}_ditail_source_checkpoint"), "the panel to open")


def unfold(page: Page, tab: str, section: str) -> None:
    """Open one of the panel's parts: ``region``, ``inversion``, ``mix`` or ``advanced``."""
    page.click(control(tab, f"{section}_section", ".label-wrap"))


def small(page: Page, tab: str) -> None:
    """A generation that takes a second."""
    for name, value in (("width", 128), ("height", 128), ("steps", 5)):
        page.set(f"#{tab}_{name} input[type=number]", value)
    page.set(f"#{tab}_prompt textarea", "a red circle")


def generate(page: Page, tab: str) -> str:
    """Click, wait for the picture, give its infotext."""
    pictures = f"return gradioApp().querySelectorAll('#{tab}_gallery img').length"
    page.generate(tab, lambda: page.run(pictures), "a picture")
    return wait(lambda: page.text(f"#html_info_{tab}"), "the infotext")


def panel_click(page: Page, tab: str, part: str) -> None:
    """Click with the mouse, as a person does, on a part of the panel's title."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    wait(lambda: page.visible(control(tab, "enabled", part)), "the panel's title", 20)
    found = page.driver.find_element(By.CSS_SELECTOR, control(tab, "enabled", part))
    ActionChains(page.driver).move_to_element(found).click().perform()


def panel_key(page: Page, tab: str, key: str) -> None:
    """Press a key on the panel's box."""
    from selenium.webdriver.common.by import By

    box = control(tab, "enabled", "input.input-accordion-checkbox")
    page.driver.find_element(By.CSS_SELECTOR, box).send_keys(key)


def ticked(page: Page, tab: str) -> bool:
    """Whether Ditail is on."""
    return page.checked(control(tab, "enabled", "input.input-accordion-checkbox"))


def says(page: Page, tab: str, words: str) -> str:
    """All that the panel says, once it says this."""
    place = f"#script_{tab}_ditail_sentence"
    wait(lambda: words in page.text(place), f"'{words}' in the panel (it says: {page.text(place)})", 30)
    return page.text(place)
