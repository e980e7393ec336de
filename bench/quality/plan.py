"""What the quality bench compares: the kinds of method, and the points of each curve and setting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from ditail_ext.core import InversionRule
from ditail_ext.settings import TABLE


class Kind(str, Enum):
    """Where the target's start and the source's latents come from."""

    DITAIL = "Ditail"
    NO_INJECTION = "injection off"
    TARGET_INVERTS = "inverted with the target"
    NO_INVERSION = "inversion off"
    IMG2IMG = "img2img"
    GENERATED = "generated source"


@dataclass(frozen=True)
class Method:
    """One point of a chart. `knob` and `value` say what is varied, `strength` is the denoising strength."""

    kind: Kind
    knob: str = ""
    value: str = ""
    positive_scale: float = TABLE["positive_scale"].default
    negative_scale: float = TABLE["negative_scale"].default
    feature_ratio: float = TABLE["feature_ratio"].default
    attention_ratio: float = TABLE["attention_ratio"].default
    feature_start: float = TABLE["feature_start"].default
    attention_start: float = TABLE["attention_start"].default
    feature_weight: float = TABLE["feature_weight"].default
    attention_weight: float = TABLE["attention_weight"].default
    layer_profile: str = TABLE["layer_profile"].default
    rule: InversionRule = InversionRule.AUTHORS
    refinements: int = 0
    record_every: int = 1
    steps: int = 20
    strength: float = 1.0

    @property
    def inversion_key(self) -> tuple[object, ...]:
        """Methods with equal keys share an inversion (with the same model)."""
        return (self.positive_scale, self.negative_scale, self.rule, self.refinements, self.steps)


DEFAULT = Method(Kind.DITAIL)

FULL = ", full"
"""At the end of what is varied with the full layer profile."""

RATIOS_FULL = f"both ratios{FULL}"


def comparison() -> list[Method]:
    """The curves of structure against style."""
    scales = (1.0, 2.0, 3.0, 5.0)
    methods = [replace(DEFAULT, knob="positive scale", value=f"{a:g}", positive_scale=a) for a in scales]
    for kind in (Kind.NO_INJECTION, Kind.TARGET_INVERTS):
        methods += [Method(kind, "positive scale", f"{a:g}", positive_scale=a) for a in (1.0, 3.0, 5.0)]
    methods += [Method(Kind.NO_INVERSION, "strength", f"{s:g}", strength=s) for s in (0.6, 0.8, 1.0)]
    return methods + [Method(Kind.IMG2IMG, "strength", f"{k / 10:g}", strength=k / 10) for k in range(2, 11)]


def knobs() -> list[Method]:
    """One setting at a time away from the defaults; the default itself and the positive scale are in `comparison`."""
    methods = [replace(DEFAULT, knob="negative scale", value=f"{b:g}", negative_scale=b) for b in (0.0, 1.0, 2.0)]
    methods += [replace(DEFAULT, knob="feature ratio", value=f"{r:g}", feature_ratio=r) for r in (0.0, 0.4, 1.0)]
    ratios = (0.0, 0.25, 0.75, 1.0)
    methods += [replace(DEFAULT, knob="attention ratio", value=f"{r:g}", attention_ratio=r) for r in ratios]
    warm = replace(DEFAULT, knob="inversion rule", value="warm start", rule=InversionRule.WARM_START)
    methods += [warm, replace(DEFAULT, knob="inversion rule", value="one refinement", refinements=1)]
    return methods + [replace(DEFAULT, knob="steps", value=str(steps), steps=steps) for steps in (10, 50)]


def windows() -> list[Method]:
    """Windows that begin later, blend weights and layers, one at a time away from the defaults."""
    methods = [replace(DEFAULT, knob="feature start", value=f"{s:g}", feature_start=s) for s in (0.2, 0.4)]
    methods.append(replace(DEFAULT, knob="attention start", value="0.25", attention_start=0.25))
    methods.append(replace(DEFAULT, knob="feature weight", value="0.5", feature_weight=0.5))
    methods.append(replace(DEFAULT, knob="attention weight", value="0.5", attention_weight=0.5))
    return [*methods, replace(DEFAULT, knob="layer profile", value="strong", layer_profile="strong")]


def full() -> list[Method]:
    """The full layer profile, in which injection does what it can: its windows and weights, and the positive scale.

    Windows of one length for both, which is how far the layout is held; then one setting at a time away from 0.6.
    """
    base = replace(DEFAULT, layer_profile="full")
    held = _held(base, 0.6)
    methods = [replace(base, knob="layer profile", value="full")]
    methods += [replace(held, knob=f"positive scale{FULL}", value=f"{a:g}", positive_scale=a) for a in (1.0, 2.0, 5.0)]
    methods += [replace(_held(base, r), knob=RATIOS_FULL, value=f"{r:g}") for r in (0.2, 0.4, 0.6, 1.0)]
    methods.append(replace(_held(base, 0.6, 0.0), knob=f"feature alone{FULL}", value="0.6"))
    methods.append(replace(_held(base, 0.0, 0.6), knob=f"attention alone{FULL}", value="0.6"))
    half = replace(held, feature_weight=0.5, attention_weight=0.5)
    return [*methods, replace(half, knob=f"both weights{FULL}", value="0.5")]


def generated_full() -> list[Method]:
    """The source generates the content, and the full layer profile carries it over for longer and longer."""
    base = Method(Kind.GENERATED, RATIOS_FULL, layer_profile="full")
    held = [replace(_held(base, r), value=f"full {r:g}") for r in (0.2, 0.4, 0.6, 0.8, 1.0)]
    half = replace(_held(base, 0.6), value="full 0.6, half weight", feature_weight=0.5, attention_weight=0.5)
    return [*held, half]


def _held(method: Method, feature: float, attention: float | None = None) -> Method:
    return replace(method, feature_ratio=feature, attention_ratio=feature if attention is None else attention)


def generated() -> list[Method]:
    """The source generates the content; beside it the target alone from the same noise."""
    whole = Method(Kind.GENERATED, "injection", "default")
    half = replace(whole, value="half the ratios", feature_ratio=0.4, attention_ratio=0.25)
    return [whole, half, replace(whole, value="off", feature_ratio=0.0, attention_ratio=0.0)]
