"""What a test says to a WebUI, and how it looks at the answer."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import requests
from PIL import Image

TIMEOUT = 300

ROUNDING = 2
"""Of 255."""


@dataclass(frozen=True)
class Answer:
    """Status and JSON (or text) of one HTTP request."""

    status: int
    body: Any

    @property
    def sentence(self) -> str:
        """What the answer tells a person."""
        if not isinstance(self.body, dict):
            return str(self.body)
        known = (self.body.get(name) for name in ("detail", "errors", "message"))  # the last is Forge's
        return str(next((said for said in known if said), ""))

    @property
    def pictures(self) -> list[Image.Image]:
        return [decode(text) for text in self.body["images"]]

    @property
    def pixels(self) -> list[bytes]:
        """The pictures' bytes without their metadata: equal only for equal pictures."""
        return [picture.tobytes() for picture in self.pictures]

    @property
    def info(self) -> dict[str, Any]:
        return json.loads(self.body["info"])

    @property
    def infotext(self) -> str:
        return self.info["infotexts"][0]


class Client:
    """A WebUI's HTTP interface."""

    def __init__(self, url: str, auth: tuple[str, str] | None = None) -> None:
        self.url = url
        self.auth = auth

    def get(self, path: str, **query: Any) -> Answer:
        return self._ask("get", path, params=query)

    def post(self, path: str, payload: Any = None) -> Answer:
        return self._ask("post", path, json=payload or {})

    def get_bytes(self, path: str) -> bytes:
        """What is no JSON."""
        response = self._send("get", path)
        response.raise_for_status()
        return response.content

    def _ask(self, method: str, path: str, **what: Any) -> Answer:
        return _answer(self._send(method, path, **what))

    def _send(self, method: str, path: str, **what: Any) -> requests.Response:
        """Uncompressed: packing what a probe has recorded takes the WebUI longer than the record pass."""
        plain = {"Accept-Encoding": "identity"}
        return requests.request(method, self.url + path, headers=plain, auth=self.auth, timeout=TIMEOUT, **what)

    def txt2img(self, ditail: list[Any] | dict[str, Any] | None = None, **request: Any) -> Answer:
        """A small picture; ``ditail`` is the arguments' list, or one dict by name."""
        return self.post("/sdapi/v1/txt2img", txt2img_request(ditail, request))

    def img2img(self, ditail: list[Any] | dict[str, Any] | None = None, **request: Any) -> Answer:
        """The same from the red circle, unless ``init_images`` says another picture."""
        return self.post("/sdapi/v1/img2img", img2img_request(ditail, request))


def img2img_request(ditail: list[Any] | dict[str, Any] | None, request: dict[str, Any]) -> dict[str, Any]:
    """What is sent for a picture from the red circle."""
    return txt2img_request(ditail, {"init_images": [encode(circle())], "denoising_strength": 0.75} | request)


def txt2img_request(ditail: list[Any] | dict[str, Any] | None, request: dict[str, Any]) -> dict[str, Any]:
    """What is sent for a small picture."""
    usual = {
        "prompt": "a red circle",
        "negative_prompt": "blue",
        "width": 128,
        "height": 64,
        "steps": 6,
        "cfg_scale": 4,
        "seed": 7,
        "sampler_name": "DDIM",
        "save_images": False,
    }
    merged = usual | request
    if ditail is not None:
        args = [ditail] if isinstance(ditail, dict) else ditail
        merged["alwayson_scripts"] = {**merged.get("alwayson_scripts", {}), "Ditail": {"args": args}}
    return merged


def _answer(response: requests.Response) -> Answer:
    try:
        body = response.json()
    except ValueError:
        body = response.text
    return Answer(response.status_code, body)


def alike(first: list[bytes], second: list[bytes]) -> bool:
    """Whether pictures, as ``Answer.pixels`` has them, are equal up to what rounding makes of another batch size."""
    if [len(one) for one in first] != [len(one) for one in second]:
        return False
    pairs = zip(first, second, strict=True)
    differences = (np.abs(np.frombuffer(a, np.uint8).astype(int) - np.frombuffer(b, np.uint8)).max() for a, b in pairs)
    return all(difference <= ROUNDING for difference in differences)


SQUARE: dict[str, Any] = {"width": 128, "height": 128}
"""Where images are compared with those of another batch: the smaller ones' lowest level normalises two numbers, which
makes a rounding's difference a hundred times larger."""


def circle(width: int = 128, height: int = 64, colour: tuple[int, int, int] = (220, 40, 40)) -> Image.Image:
    """A disc on grey: a picture with structure, of the size that is asked for where a test says nothing."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.full((height, width, 3), 128, np.uint8)
    radius = min(width, height) / 4
    pixels[(rows - height / 2) ** 2 + (columns - width / 2) ** 2 < radius**2] = colour
    return Image.fromarray(pixels)


def left_half(width: int = 128, height: int = 64) -> str:
    """A mask for inpainting: white, that is regenerated, on the left half; as the API takes pictures."""
    mask = Image.new("L", (width, height))
    mask.paste(255, (0, 0, width // 2, height))
    return encode(mask)


def encode(picture: Image.Image) -> str:
    """Base64 of a PNG, as the API takes pictures."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text.split(",", 1)[-1]))).convert("RGB")


SQUARE_CIRCLE: dict[str, Any] = {**SQUARE, "init_images": [encode(circle(128, 128))]}
"""Of img2img, for comparison with what the core makes of that picture."""
