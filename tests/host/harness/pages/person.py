"""A person in the page, who clicks on what is to be seen; clicks and decisions are counted."""

from __future__ import annotations

from collections.abc import Sequence

from .page import LISTEN, PRESS, STEADY, Page, ask, wait
from .panel import control


class Person:
    """Clicks with a mouse on what is to be seen, and counts."""

    def __init__(self, page: Page, tab: str) -> None:
        self.page, self.tab = page, tab
        self.clicks = self.decisions = 0

    def click(self, selector: str) -> None:
        self.press(selector)
        self.clicks += 1

    def press(self, selector: str) -> None:
        """A click that is not counted; where the page has moved under the mouse, another."""
        wait(lambda: self.page.visible(selector), selector, 30)
        wait(lambda: self._hit(selector), f"{selector} to stay under the mouse", 30)

    def _hit(self, selector: str) -> bool:
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.by import By

        found = self.page.driver.find_element(By.CSS_SELECTOR, selector)
        self.page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        if not self.page.driver.execute_async_script(STEADY, found):
            return False
        self.page.driver.execute_script(LISTEN, found)
        ActionChains(self.page.driver).move_to_element(found).click().perform()
        noted = lambda: self.page.run("return window.clickIsHere !== null")  # noqa: E731
        return bool(ask(noted, 5) and self.page.run("return window.clickIsHere"))

    def of_panel(self, name: str, kind: str = "") -> None:
        self.click(control(self.tab, name, kind).strip())

    def tick(self) -> None:
        self.of_panel("enabled", "input.input-accordion-checkbox")

    def generate(self) -> str:
        """Click Generate: one click, also where a page that moves under the mouse needs another."""
        self.clicks += 1
        shown = lambda: self.page.text(f"#html_info_{self.tab}")  # noqa: E731
        return self.page.generate(self.tab, shown, "the picture", lambda: self.press(f"#{self.tab}_generate"))

    def choose(self, selector: str, option: str, *, decided: bool = True) -> None:
        """Take an entry of a list: a click on the list and one on the entry; a decision, unless there is no choice."""
        self.click(f"{selector} input")
        self.page.choose(selector, option)
        self.clicks += 1
        self.decisions += decided

    def choose_all(self, selector: str, options: Sequence[str]) -> None:
        """Take entries of a list that stays open: a click on the list and one on each; one decision."""
        self.click(f"{selector} input")
        for option in options:
            item = f"{selector} ul.options li[aria-label='{option}']"
            wait(lambda item=item: self.page.run(PRESS, item), item)
            wait(lambda option=option: option in self.page.text(selector), f"{option} to be chosen", 20)
            self.clicks += 1
        self.decisions += 1
