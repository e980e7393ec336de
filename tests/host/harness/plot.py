"""The host's X/Y/Z plot through the API."""

from __future__ import annotations

from typing import Any

from .client import Answer, circle, encode
from .server import WebUI

NOTHING = ("Nothing", "")


FURTHER = 18
"""Arguments of the WebUI's plot; reForge's takes some more before the seeds."""


def axis_number(webui: WebUI, label: str, *, img2img: bool = True) -> int:
    """The plot's API takes an axis by its place in the tab's menu."""
    return _tab(webui, img2img)["args"][0]["choices"].index(label)


def _tab(webui: WebUI, img2img: bool) -> dict[str, Any]:
    plots = [info for info in webui.get("/sdapi/v1/script-info").body if info["name"] == "x/y/z plot"]
    return next(info for info in plots if info["is_img2img"] == img2img)


def arguments(webui: WebUI, *axes: tuple[str, str], img2img: bool = True) -> list[Any]:
    """What the script takes for the axes X and Y, each a label and its values with commas between them."""
    args: list[Any] = []
    for label, values in (*axes, *[NOTHING] * (3 - len(axes))):
        # type, values, values from the drop-down (used where the axis has choices)
        args += [axis_number(webui, label, img2img=img2img), values, values.split(", ")]
    if len(_tab(webui, img2img)["args"]) > FURTHER:
        # legend, labels, no grid, pictures a grid, separate pictures, sub-grids, seeds as above, margin, csv mode
        return [*args, False, False, False, 0, True, False, False, False, False, False, 0, False]
    # legend, separate pictures, sub-grids, keep -1 for seeds, vary seeds thrice, margin, csv mode
    return [*args, False, True, False, False, False, False, False, 0, False]


def plot(webui: WebUI, *axes: tuple[str, str], **request: Any) -> Answer:
    """Cells of the red circle, after the grid that they make up."""
    args = arguments(webui, *axes)
    return webui.img2img(script_name="X/Y/Z plot", script_args=args, init_images=[encode(circle())], **request)
