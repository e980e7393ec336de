"""The cost of a grid or a plot, said below its controls and anew with each choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from modules import scripts

from .cost import Axis, count, grid_cost, plot_cost

_SIZES = ("steps", "width", "height")
_AXES = ("x", "y", "z")
_LAST = "xz_grid_swap_axes_button"
_LAST_OF_GRID = "refresh_loras"
"""The plot's and the grid's lowest controls; their costs stand below."""


class Announced:
    """One tab's costs, joined once the controls of all who have a part in them are there, in whichever order."""

    def __init__(self, *, is_img2img: bool) -> None:
        self._tab = "img2img" if is_img2img else "txt2img"
        self._found: dict[str, Any] = {}

    def host_has(self, component: Any) -> None:
        """A control was made, the host's, the plot's or our own; to be called where it is made, within the page."""
        name = self._name_of(component)
        if name is None or name in self._found:
            return
        self._found[name] = component
        if name == _LAST:
            self._found["plot's cost"] = self._line("plot_cost")
        if name == _LAST_OF_GRID:
            self._found["grid's cost"] = self._line("grid_cost")
        self._join()

    def _line(self, name: str) -> Any:
        return gr.HTML("", elem_classes=["ditail-help", "ditail-cost"], elem_id=f"ditail_{self._tab}_{name}")

    def _name_of(self, component: Any) -> str | None:
        """What a control is to us. The plot's lists have no name of their own but a label."""
        element = str(getattr(component, "elem_id", None) or "")
        for name in _SIZES:
            if element == f"{self._tab}_{name}":
                return name
        label = str(getattr(component, "label", None) or "")
        for axis in _AXES:
            if element in (f"script_{self._tab}_xyz_plot_{axis}_type", f"script_{self._tab}_xyz_plot_{axis}_values"):
                return element.rsplit("plot_", 1)[1]
            if not element and label == f"{axis.upper()} values" and isinstance(component, gr.Dropdown):
                return f"{axis}_list"
        own = {
            f"script_{self._tab}_ditail_enabled-checkbox": "enabled",
            f"script_{self._tab}_ditail_grid_checkpoints": "grid_checkpoints",
            f"script_{self._tab}_ditail_grid_loras": "grid_loras",
            f"script_{self._tab}_ditail_grid_{_LAST_OF_GRID}": _LAST_OF_GRID,
            _LAST: _LAST,
        }
        return own.get(element)

    def _join(self) -> None:
        grid = ["grid_checkpoints", "grid_loras", *_SIZES]
        plot = [f"{axis}_{part}" for axis in _AXES for part in ("type", "values", "list")]
        self._announce("grid's cost", grid, _of_grid)
        self._announce("plot's cost", ["enabled", *plot, *_SIZES], self._of_plot)

    def _announce(self, place: str, names: Sequence[str], words: Callable[..., str]) -> None:
        if place not in self._found or not set(names) <= set(self._found):
            return
        inputs, output = [self._found[name] for name in names], self._found.pop(place)
        for one in inputs:
            one.change(fn=words, inputs=inputs, outputs=[output], show_progress=False, queue=False)

    def _of_plot(self, enabled: Any, *values: Any) -> str:
        chosen, (steps, width, height) = values[: 3 * len(_AXES)], values[3 * len(_AXES) :]
        options = plot_axes(self._tab)
        axes = [_axis(options, *chosen[at : at + 3]) for at in range(0, len(chosen), 3)]
        return plot_cost(axes, enabled=enabled is True, steps=int(steps or 0), pixels=_pixels(width, height))


def plot_axes(tab: str) -> list[Any]:
    """The plot's axes in the order of its menu, of which it sends the number."""
    data = next((data for data in scripts.scripts_data if data.script_class.__module__ == "xyz_grid.py"), None)
    if data is None:
        return []
    plain = data.module.AxisOption
    return [one for one in data.module.axis_options if type(one) is plain or one.is_img2img == (tab == "img2img")]


def _axis(options: Sequence[Any], number: Any, text: Any, listed: Any) -> Axis:
    index = number if isinstance(number, int) and 0 <= number < len(options) else 0
    if not options:
        return Axis("Nothing", 0)
    values = len(listed) if listed else count(str(text or ""), options[index].type)
    return Axis(options[index].label, values)


def _of_grid(checkpoints: Any, loras: Any, steps: Any, width: Any, height: Any) -> str:
    return grid_cost(checkpoints, loras, int(steps or 0), _pixels(width, height))


def _pixels(width: Any, height: Any) -> int:
    return int(width or 0) * int(height or 0)
