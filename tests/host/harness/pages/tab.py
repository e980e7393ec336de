"""The img2img tab with its Generate button pressed as a browser does, through gradio's own protocol.

The API knows one picture at a time; the tab's modes (drawing, folders) are behind the button alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..client import Client, encode

IMG2IMG, SKETCH, INPAINT, INPAINT_SKETCH, INPAINT_UPLOAD, BATCH = range(6)
"""The tabs for the picture, as the host numbers them."""

PANEL = "script_img2img_ditail_"
"""Before the names of Ditail's settings in the names of its controls."""

_USUAL = {
    "img2img_prompt": "a red circle",
    "img2img_neg_prompt": "blue",
    "img2img_width": 128,
    "img2img_height": 128,
    "img2img_steps": 6,
    "img2img_cfg_scale": 4,
    "img2img_seed": 7,
    "img2img_sampling": "DDIM",
    "img2img_override_settings": [],
}
"""The same request as the client's."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Shown:
    """What the tab shows after the button was pressed.

    Attributes:
        pictures: of the gallery, a grid among them.
        infotext: below it, as HTML.
        log: below that: comments, or the error.
    """

    pictures: list[Image.Image]
    infotext: str
    log: str

    @property
    def pixels(self) -> list[bytes]:
        """The pictures' bytes without their metadata."""
        return [picture.tobytes() for picture in self.pictures]


class Img2ImgTab:
    """The tab of one WebUI, in a browser window of its own."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._session = f"tests{next(_numbers)}"
        config = client.get("/config").body
        self._dependencies = config["dependencies"]
        self._controls = {part["id"]: part.get("props", {}) for part in config["components"]}

    def press(self, mode: int, ditail: dict[str, Any] | None = None, **values: Any) -> Shown:
        """Set controls by their names, press Generate, wait.

        Args:
            mode: which tab for the picture is open.
            ditail: the panel's settings; Ditail is switched off without.
            values: by the names of controls. ``source_type`` and ``png_info_props`` are the Batch tab's controls
                without a name.
        """
        chosen = {**_USUAL, **values}
        if ditail is not None:
            chosen[f"{PANEL}enabled-checkbox"] = True
            chosen |= {PANEL + name: value for name, value in ditail.items()}
        index = next(at for at, found in enumerate(self._dependencies) if found["js"] == "submit_img2img")
        data = [self._value(control, chosen) for control in self._named_inputs(index)]
        assert chosen == {}, f"the tab has no control {list(chosen)}"
        data[:2] = [f"task({self._session}-{next(_numbers)})", mode]
        gallery, _, infotext, log = self._call(index, data)
        return Shown([_read(entry) for entry in gallery or []], infotext, log)

    def change(self, name: str, value: Any) -> None:
        """Let the host know that a control has changed, where it does something then."""
        target = next(key for key, props in self._controls.items() if props.get("elem_id") == name)
        for index, found in enumerate(self._dependencies):
            if found["targets"] == [target] and found["trigger"] == "change" and found["backend_fn"]:
                self._call(index, [value if key == target else None for key in found["inputs"]])

    def _named_inputs(self, index: int) -> list[tuple[str, Any]]:
        """Name and value of each input; a nameless one is named after a neighbour."""
        controls = [self._controls[key] for key in self._dependencies[index]["inputs"]]
        names = [str(props.get("elem_id") or "") for props in controls]
        names[names.index("img2img_batch_upload") - 1] = "source_type"
        names[names.index("img2img_batch_use_png_info") + 1] = "png_info_props"
        return [(name, props.get("value")) for name, props in zip(names, controls, strict=True)]

    @staticmethod
    def _value(control: tuple[str, Any], chosen: dict[str, Any]) -> Any:
        name, default = control
        value = chosen.pop(name, default)
        return as_upload(value) if isinstance(value, Image.Image) else value

    def _call(self, index: int, data: list[Any]) -> list[Any]:
        body = {"fn_index": index, "data": data, "session_hash": self._session}
        answer = self._client.post("/run/predict", body)
        assert answer.status == 200, answer.body
        return answer.body["data"]


def as_upload(picture: Image.Image) -> str:
    """A picture as the browser sends it."""
    return f"data:image/png;base64,{encode(picture)}"


def _read(entry: Any) -> Image.Image:
    file = entry[0] if isinstance(entry, list) else entry
    return Image.open(Path(file["name"].rsplit("?", 1)[0])).convert("RGB")
