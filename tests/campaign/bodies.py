"""API bodies: every argument of the schema, with right and wrong values, in both tabs, by name and by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from .pictures import hostile

TAGS = ("<lora:tiny:1>", "<lora:tiny:0,5>", "<lora:tiny:abc>", "<lora:none:1>", "<hypernet:none:1>", "<lora:tiny")
NAMES = (
    *("beta.safetensors", "delta.safetensors", "twin.ckpt", "alpha.safetensors", "vpred.safetensors", "twin", "a"),
    *("../beta.safetensors", "/etc/passwd", "C:\\models\\x.ckpt", "checkpoints/beta.safetensors", "\ud800", "None"),
)


@dataclass(frozen=True)
class Body:
    """One request, before it is known what should become of it.

    Attributes:
        tab: ``txt2img`` or ``img2img``.
        args: Ditail's.
        request: the host's own fields; all of them right.
    """

    tab: str
    args: list[Any]
    request: dict[str, Any]

    @property
    def asks(self) -> bool:
        """Whether it asks for Ditail: by a dict, or with its switch on."""
        first = self.args[0] if self.args else False
        return first.get("enabled", True) is not False if isinstance(first, dict) else first is not False


def bodies(schema: dict[str, Any]) -> st.SearchStrategy[Body]:
    """Bodies over what ``/ditail/v1/schema`` says."""
    known = {entry["name"]: entry for entry in schema["arguments"]}
    values = {name: _right(entry) for name, entry in known.items()}
    right = st.fixed_dictionaries({}, optional=values)
    wrong = st.dictionaries(st.sampled_from(sorted(known)) | st.text(max_size=12), _anything(), min_size=1, max_size=2)
    named = st.tuples(st.one_of(right, right.map(_few)), st.one_of(st.just({}), wrong, wrong, wrong, wrong)).map(
        lambda pair: [{**pair[0], **pair[1]}]
    )
    first = st.sampled_from((True, True, True, False)) | _anything()
    others = st.lists(st.booleans() | _anything(), max_size=len(known) + 2)
    positions = st.tuples(first, others).map(lambda pair: [pair[0], *pair[1]]) | st.just([])
    return st.builds(Body, st.sampled_from(("txt2img", "img2img")), st.one_of(*(named,) * 7, positions), _requests())


def _few(values: dict[str, Any]) -> dict[str, Any]:
    return dict(list(values.items())[:4])


def _right(entry: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that an argument may have, and its limits' neighbours."""
    name = entry["name"]
    if entry.get("format") == "base64":
        return st.integers(0, 2**20).map(hostile)
    if "checkpoint" in name or "vae" in name or name in ("aggregate_1", "aggregate_2", "aggregate_3"):
        return st.sampled_from((*entry.get("choices", ()), *NAMES))
    if "choices" in entry:
        return st.sampled_from(entry["choices"])
    if entry["type"] == "boolean":
        return st.booleans()
    if entry["type"] == "integer":
        return st.integers(int(entry["minimum"]), int(entry["maximum"]))
    if entry["type"] == "number":
        return st.floats(entry["minimum"], entry["maximum"])
    return st.sampled_from(TAGS) | st.text(max_size=40)


def _anything() -> st.SearchStrategy[Any]:
    numbers = st.floats() | st.integers() | st.sampled_from((10**400, -1, 1e308, float("nan"), float("inf")))
    texts = st.text(max_size=30) | st.sampled_from((*NAMES, "\0", "x" * 200_000, "NaN", "true", "<b>bold</b>"))
    simple = st.none() | st.booleans() | numbers | texts
    return simple | st.lists(simple, max_size=3) | st.dictionaries(st.text(max_size=5), simple, max_size=2)


def _requests() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "prompt": st.sampled_from(("a red circle", "", "(a:1.3) AND b", "[a:b:0.5]", "😀", "a, " * 90)),
            "steps": st.sampled_from((1, 2, 2, 3)),
            "width": st.sampled_from((72, 72, 72, 128)),
            "height": st.just(64),
            "seed": st.sampled_from((7, 2**31)),  # few: bodies share their twins without Ditail
            "cfg_scale": st.sampled_from((1, 4, 7.5)),
            "batch_size": st.sampled_from((1, 1, 1, 1, 1, 1, 2)),
            "sampler_name": st.sampled_from(("DDIM", "Euler", "Euler a", "DPM++ 2M", "UniPC", "Restart", "LCM")),
        }
    )
