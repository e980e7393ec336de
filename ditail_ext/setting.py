"""One row of the table of settings: what everybody who shows, reads or writes a setting needs to know about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .errors import SettingsError

NO_CHECKPOINT = "none"
"""What a setting says that names no checkpoint."""


class Section(str, Enum):
    """Parts of the panel, the most used first; all but the first are folded away under their value as the title."""

    TOP = ""
    REGION = "Region"
    INVERSION = "Inversion"
    MIX = "Mix"
    AGGREGATION = "Aggregation"
    ADVANCED = "Advanced"


class Group(Enum):
    """Settings that stand together, one row of the panel, and the section that the row is in."""

    SWITCH = (Section.TOP, "switch")
    CONTENT = (Section.TOP, "content")
    SOURCE = (Section.TOP, "source")
    RATIOS = (Section.TOP, "ratios")
    REGION = (Section.REGION, "region")
    PROMPTS = (Section.INVERSION, "prompts")
    SCALES = (Section.INVERSION, "scales")
    MIX = (Section.MIX, "mix")
    AGGREGATION = (Section.AGGREGATION, "aggregation")
    AGGREGATE_1 = (Section.AGGREGATION, "first further checkpoint")
    AGGREGATE_1_PROMPTS = (Section.AGGREGATION, "its prompts")
    AGGREGATE_2 = (Section.AGGREGATION, "second further checkpoint")
    AGGREGATE_2_PROMPTS = (Section.AGGREGATION, "the second's prompts")
    AGGREGATE_3 = (Section.AGGREGATION, "third further checkpoint")
    AGGREGATE_3_PROMPTS = (Section.AGGREGATION, "the third's prompts")
    RULE = (Section.ADVANCED, "rule")
    LAYERS = (Section.ADVANCED, "layers")
    STARTS = (Section.ADVANCED, "starts")
    WEIGHTS = (Section.ADVANCED, "weights")
    FILES = (Section.ADVANCED, "files")

    @property
    def section(self) -> Section:
        """Where the panel has it."""
        return self.value[0]


@dataclass(frozen=True)
class Setting:
    """What everybody who shows, reads or writes a setting needs to know about it.

    Attributes:
        name: in code, in the API and, with hyphens, on the command line.
        kind: ``float``, ``int``, ``bool`` or ``str``.
        default: what holds when nothing is said.
        label: for people; the only place for the paper's Greek letters.
        help: one or two sentences about what it does.
        infotext: the key in a picture's parameters.
        group: where the panel shows it.
        minimum: smallest value allowed, of a number.
        maximum: largest value allowed, of a number.
        step: of a slider.
        choices: the values allowed, of a text that is not free.
        webui_only: means nothing outside the WebUI.
        neutral: its default does nothing, so a picture's parameters need not say it.
    """

    name: str
    kind: type
    default: Any
    label: str
    help: str
    infotext: str
    group: Group
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] | None = None
    webui_only: bool = False
    neutral: bool = False

    def check(self, value: Any) -> Any:
        """The value in the setting's own type.

        Raises:
            SettingsError: it has another type, lies outside the range or is none of the choices.
        """
        if self.kind is float and type(value) is int and abs(value) <= _EXACT:
            value = float(value)
        if type(value) is not self.kind:
            raise SettingsError(self.name, f"{self.name} must be {_KIND_NAMES[self.kind]}, not {shown(value)}.")
        if isinstance(value, str) and not _is_writable(value):
            raise SettingsError(self.name, f"{self.name} must be a text in Unicode, not {shown(value)}.")
        if self.minimum is not None and self.maximum is not None and not self.minimum <= value <= self.maximum:  # type: ignore[operator]
            raise SettingsError(
                self.name, f"{self.name} must be from {self.minimum:g} to {self.maximum:g}, not {shown(value)}."
            )
        if self.choices is not None and value not in self.choices:
            raise SettingsError(
                self.name, f"{self.name} must be one of {', '.join(self.choices)}, not {shown(value)}."
            )
        return value


_EXACT = 2**53  # whole numbers up to here are floats, too; larger ones lie outside every range
_QUOTED = 60  # characters of a wrong value that a sentence repeats
_KIND_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}


def _is_writable(text: str) -> bool:
    """Whether a text can be sent and saved: JSON may hold halves of a character, which no answer and no file can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    """A wrong value as a sentence quotes it: not at any length."""
    text = repr(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."


def row(kind: type, default: Any, label: str, infotext: str, help: str, *, group: Group, **more: Any) -> Any:
    """A field of the table: its kind and default, and what its row says besides."""
    texts = {"label": label, "infotext": infotext, "help": help}
    table_entry = {"kind": kind, "default": default, "group": group, **texts, **more}
    return dataclasses.field(default=default, metadata=table_entry)


def share(default: float, label: str, infotext: str, help: str, neutral: bool = True, **more: Any) -> Any:
    """A field whose value is a share, from 0 to 1."""
    limits: dict[str, Any] = {"minimum": 0.0, "maximum": 1.0, "step": 0.01, "neutral": neutral}
    return row(float, default, label, infotext, help, **limits, **more)
