"""What the panel or the API sends, as checked settings.

The host copies an API request's arguments over the panel's defaults as they are: pictures stay base64, nothing is
checked. All of that happens here, so a wrong argument stops the request with a sentence that names it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from ...errors import SettingsError
from ...setting import shown
from ...settings import EVERYWHERE, MASK_REGION, SAME_AS_TARGET, SAME_AS_TARGET_SHOWN, TABLE, Settings
from .pictures import MASK, PICTURE, read_mask, read_picture
from .presets import PRESET, preset_values

ARGUMENTS = ("enabled", *(name for name in TABLE if name != "enabled"), MASK, PICTURE)
"""Names of the script's arguments by position; img2img has no content picture."""

OVERRIDES = "ditail_overrides"
"""Attribute of the host's request with settings that replace the panel's, by name, in a plot's cell or a grid's."""


@dataclass(frozen=True)
class Request:
    """What one request asks of Ditail.

    Attributes:
        settings: checked.
        picture: the content picture of txt2img.
        mask: the region mask, in grey.
    """

    settings: Settings
    picture: Image.Image | None = None
    mask: Image.Image | None = None


def parse_request(args: Sequence[object], overrides: Mapping[str, object] | None = None) -> Request | None:
    """The request in a script's arguments; ``None`` if Ditail is not enabled.

    Args:
        args: by position as the panel sends them, or with one dict by name as the first. What the dict does not
            name keeps its positional value, which is the default or what an infotext says. To give a dict is to
            enable Ditail, and to give a mask in it is to choose it as the region, unless it says otherwise. With
            ``preset`` it names a preset, whose values count where it says nothing of its own. The host
            always fills the list up to the tab's number of controls, so img2img's is the one that ends before the
            picture.
        overrides: settings that replace those, by name, as a cell of an XYZ plot has them (``p.ditail_overrides``).

    Raises:
        SettingsError: a name is unknown, a value is wrong, or the region mask is chosen but not there.
    """
    values = from_panel(args)
    first = values.get("enabled", False)
    if isinstance(first, Mapping):
        if PICTURE in first and len(args) == len(ARGUMENTS) - 1:
            raise SettingsError(PICTURE, f"{PICTURE} is for txt2img alone; in img2img send it in init_images.")
        implied = {"region": MASK_REGION} if first.get(MASK) else {}
        values = {**values, "enabled": True, **implied, **_preset(first), **_known(first)}
    values = _in_the_tables_words({**values, **(overrides or {})})
    if not TABLE["enabled"].check(values.get("enabled", False)):
        return None
    picture, mask_value = read_picture(values.pop(PICTURE, None)), values.pop(MASK, None)
    settings = Settings.from_mapping(values)
    mask = read_mask(mask_value, chosen=settings.region == MASK_REGION)
    if settings.region == MASK_REGION and mask is None:
        raise SettingsError(
            "region", f"region is '{MASK_REGION}', but there is no mask; give one, or choose '{EVERYWHERE}'."
        )
    return Request(settings, picture, mask)


def from_panel(args: Sequence[object]) -> dict[str, object]:
    """The arguments by name.

    A list that was emptied in the panel sends nothing: it stands at its default, as it does before it is touched.
    """
    values = dict(zip(ARGUMENTS, args, strict=False))
    values |= {name: TABLE[name].default for name, value in values.items() if _is_emptied(name, value)}
    return _in_the_tables_words(values)


def _in_the_tables_words(values: dict[str, object]) -> dict[str, object]:
    """What the panel calls otherwise, as the table has it. script-info shows API callers the panel's words."""
    shows_another = values.get("source_checkpoint") == SAME_AS_TARGET_SHOWN
    return {**values, "source_checkpoint": SAME_AS_TARGET} if shows_another else values


def _is_emptied(name: str, value: object) -> bool:
    return value is None and name in TABLE and TABLE[name].kind is str


def is_asked_for(args: Sequence[object], overrides: Mapping[str, object] | None = None) -> bool:
    """Whether :func:`parse_request` would give a request, whatever may be wrong with it."""
    first = (overrides or {}).get("enabled", args[0] if args else False)
    return first.get("enabled", True) is True if isinstance(first, Mapping) else first is True


def _preset(named: Mapping[object, object]) -> dict[str, object]:
    name = named.get(PRESET)
    if name is None:
        return {}
    if not isinstance(name, str):
        raise SettingsError(PRESET, f"{PRESET} must be a text, not {shown(name)}.")
    return preset_values(name)


def _known(named: Mapping[object, object]) -> dict[str, object]:
    names = (*ARGUMENTS, PRESET)
    for name in named:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean {near[0]}?" if near else "GET /ditail/v1/schema lists them."
            raise SettingsError(str(name), f"There is no argument {shown(str(name))}; {hint}")
    return {str(name): value for name, value in named.items() if name != PRESET}
