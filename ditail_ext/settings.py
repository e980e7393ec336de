"""THE table of settings.

Each field of :class:`Settings` carries its label, range, help and infotext key. The command line, the WebUI's
panel, its API, infotext, XYZ axes and the README's table are all read from here; nobody keeps a second list.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import SettingsError
from .further import further_checkpoint, further_negative_prompt, further_prompt, further_weight
from .setting import NO_CHECKPOINT, Group, Setting, row, share, shown

SAME_AS_TARGET = "same as target"
SAME_AS_TARGET_SHOWN = "same as target (to edit by prompt)"
"""What the panel calls it; a person who wants another style should choose something else."""

AUTOMATIC = "automatic"
NO_MIX = NO_CHECKPOINT

EVERYWHERE = "everywhere"
MASK_REGION = "region mask"
INPAINT_REGION = "inpaint mask"
OUTSIDE_REGION = "outside inpaint mask"

CONTENT_AUTOMATIC = "automatic"
CONTENT_PICTURE = "picture"
CONTENT_GENERATED = "generated"

AGGREGATE = ("aggregate_1", "aggregate_2", "aggregate_3")
"""Settings that name a further checkpoint, whose latents are merged with the target's."""

WITH_INJECTION = "with injection"
AGGREGATION_ALONE = "alone"

CHECKPOINTS = ("source_checkpoint", "mix_checkpoint", *AGGREGATE)
"""Settings that name a checkpoint of the host."""

INVERSION_ONLY = ("positive_scale", "negative_scale", "inversion_rule", "refinements")
"""Settings that mean nothing where the source generates the content: nothing is inverted."""


@dataclass(frozen=True)
class Settings:
    """One request's settings, checked.

    Raises:
        SettingsError: a value has the wrong type, lies outside its range or is none of the choices.
    """

    enabled: bool = row(
        bool,
        False,
        "Ditail",
        "Ditail",
        "Keep the picture's structure with a source checkpoint while the loaded checkpoint gives its style.",
        webui_only=True,
        group=Group.SWITCH,
    )
    source_checkpoint: str = row(
        str,
        SAME_AS_TARGET,
        "Source checkpoint",
        "Ditail source",
        "The checkpoint that understands the picture's content; it inverts the picture. "
        "The loaded checkpoint is the target and gives the style.",
        group=Group.SOURCE,
    )
    source_vae: str = row(
        str,
        AUTOMATIC,
        "Source VAE",
        "Ditail source VAE",
        "The VAE that encodes the picture for the source checkpoint; automatic takes the checkpoint's own.",
        webui_only=True,
        group=Group.FILES,
    )
    positive_scale: float = row(
        float,
        3.0,
        "Positive scale (α)",
        "Ditail positive scale",
        "Weight of the positive prompt in the inversion. Higher keeps more structure; far above 5 colours turn "
        "unnatural.",
        minimum=0.0,
        maximum=10.0,
        step=0.1,
        group=Group.SCALES,
    )
    negative_scale: float = row(
        float,
        0.5,
        "Negative scale (β)",
        "Ditail negative scale",
        "Weight with which the negative prompt is taken off in the inversion. Affects fine detail.",
        minimum=0.0,
        maximum=10.0,
        step=0.1,
        group=Group.SCALES,
    )
    feature_ratio: float = share(
        0.8,
        "Feature ratio",
        "Ditail feature ratio",
        "Share of the steps, counted from the first, in which the source's decoder feature is injected "
        "(layout and shapes).",
        neutral=False,
        group=Group.RATIOS,
    )
    attention_ratio: float = share(
        0.5,
        "Attention ratio",
        "Ditail attention ratio",
        "Share of the steps, counted from the first, in which the source's self-attention is injected "
        "(which parts belong together).",
        neutral=False,
        group=Group.RATIOS,
    )
    inversion_prompt: str = row(
        str,
        "",
        "Inversion prompt",
        "Ditail inversion prompt",
        "What the picture shows, for the inversion; the main prompt if empty.",
        group=Group.PROMPTS,
    )
    inversion_negative_prompt: str = row(
        str,
        "",
        "Inversion negative prompt",
        "Ditail inversion negative prompt",
        "Negative prompt for the inversion; the main negative prompt if empty.",
        group=Group.PROMPTS,
    )
    inversion_rule: str = row(
        str,
        "authors",
        "Inversion rule",
        "Ditail inversion rule",
        "authors: the paper's, one UNet call a step. warm start: one call more in all, returns closer to the picture. "
        "fast: the warm start at every third step alone, which takes a third of the calls.",
        choices=("authors", "warm start", "fast"),
        group=Group.RULE,
    )
    refinements: int = row(
        int,
        0,
        "Refinements per inversion step",
        "Ditail refinements",
        "Fixed-point iterations after each inversion step; each costs one more UNet call a step (fast: every third).",
        minimum=0,
        maximum=5,
        step=1,
        group=Group.RULE,
    )
    layer_profile: str = row(
        str,
        "default",
        "Layer profile",
        "Ditail layers",
        "default: the paper's layers (SDXL: Ctrl-X's). strong: self-attention in more decoder blocks, which keeps "
        "more of the source. full: the feature in all later blocks, too, which keeps most; lower the ratios if the "
        "source's look comes along.",
        choices=("default", "strong", "full"),
        group=Group.LAYERS,
    )
    record_every: int = row(
        int,
        1,
        "Record every",
        "Ditail record every",
        "How often the source's features are recorded. 1: at each step, as the paper has it. 2 or more: the steps "
        "between take those of the step before, and a first picture takes less time.",
        minimum=1,
        maximum=4,
        step=1,
        neutral=True,
        group=Group.LAYERS,
    )
    feature_start: float = share(
        0.0,
        "Feature start",
        "Ditail feature start",
        "Share of the steps that pass before the feature is injected; the feature ratio is where that ends.",
        group=Group.STARTS,
    )
    attention_start: float = share(
        0.0,
        "Attention start",
        "Ditail attention start",
        "Share of the steps that pass before self-attention is injected; the attention ratio is where that ends.",
        group=Group.STARTS,
    )
    feature_weight: float = share(
        1.0,
        "Feature weight",
        "Ditail feature weight",
        "How much of the injected feature is the source's; the rest is the picture's own.",
        group=Group.WEIGHTS,
    )
    attention_weight: float = share(
        1.0,
        "Attention weight",
        "Ditail attention weight",
        "How much of the injected self-attention (queries and keys) is the source's; the rest is the picture's own.",
        group=Group.WEIGHTS,
    )
    region: str = row(
        str,
        EVERYWHERE,
        "Region",
        "Ditail region",
        "Where to inject: everywhere, where the region mask is bright, or inside or outside of the inpaint mask.",
        choices=(EVERYWHERE, MASK_REGION, INPAINT_REGION, OUTSIDE_REGION),
        webui_only=True,
        group=Group.REGION,
    )
    region_blur: int = row(
        int,
        4,
        "Region blur",
        "Ditail region blur",
        "Pixels over which the edges of a region are softened.",
        minimum=0,
        maximum=64,
        step=1,
        group=Group.REGION,
    )
    content: str = row(
        str,
        CONTENT_AUTOMATIC,
        "Content",
        "Ditail content",
        "Of txt2img: automatic inverts the content picture, where there is one, and lets the source generate the "
        "content where there is none; picture and generated allow only that.",
        choices=(CONTENT_AUTOMATIC, CONTENT_PICTURE, CONTENT_GENERATED),
        webui_only=True,
        group=Group.CONTENT,
    )
    show_content: bool = row(
        bool,
        False,
        "Show the content picture",
        "Ditail show content",
        "In txt2img without a content picture, also return (and save) the picture that the source generated.",
        webui_only=True,
        group=Group.CONTENT,
    )
    mix_checkpoint: str = row(
        str,
        NO_MIX,
        "Mix target with",
        "Ditail mix with",
        "A second checkpoint of the target's architecture; while Ditail samples, the target's UNet is a mix of both.",
        webui_only=True,
        group=Group.MIX,
    )
    mix_weight: float = share(
        0.0,
        "Mix weight (γ)",
        "Ditail mix weight",
        "Share of the second checkpoint in the mix: 0 is the loaded checkpoint alone, 1 the second one's UNet.",
        webui_only=True,
        group=Group.MIX,
    )

    aggregate_1: str = further_checkpoint(1)
    aggregate_1_weight: float = further_weight(1)
    aggregate_1_prompt: str = further_prompt(1)
    aggregate_1_negative_prompt: str = further_negative_prompt(1)
    aggregate_2: str = further_checkpoint(2)
    aggregate_2_weight: float = further_weight(2)
    aggregate_2_prompt: str = further_prompt(2)
    aggregate_2_negative_prompt: str = further_negative_prompt(2)
    aggregate_3: str = further_checkpoint(3)
    aggregate_3_weight: float = further_weight(3)
    aggregate_3_prompt: str = further_prompt(3)
    aggregate_3_negative_prompt: str = further_negative_prompt(3)
    aggregation_ratio: float = share(
        0.2,
        "Aggregation ratio",
        "Ditail aggregation ratio",
        "Share of the steps, counted from the first, in which the further checkpoints take part; after it the target "
        "goes on alone. A longer share takes more of the others' layout and costs the target's style.",
        webui_only=True,
        group=Group.AGGREGATION,
    )
    aggregation_start: float = share(
        0.0,
        "Aggregation start",
        "Ditail aggregation start",
        "Share of the steps that pass before merging begins; until then each checkpoint goes its own way.",
        webui_only=True,
        group=Group.AGGREGATION,
    )
    aggregation: str = row(
        str,
        WITH_INJECTION,
        "Aggregation",
        "Ditail aggregation",
        "with injection: all checkpoints start from the source's latent, whose features are injected into the target. "
        "alone: an ordinary picture without a source, but for the merged steps.",
        choices=(WITH_INJECTION, AGGREGATION_ALONE),
        webui_only=True,
        group=Group.AGGREGATION,
    )

    def __post_init__(self) -> None:
        for name, setting in TABLE.items():
            object.__setattr__(self, name, setting.check(getattr(self, name)))

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Settings:
        """Settings by name, the rest at their defaults.

        Raises:
            SettingsError: there is no setting of a name, or a value is wrong.
        """
        for name in values:
            if name not in TABLE:
                near = difflib.get_close_matches(str(name), TABLE, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TABLE)}."
                raise SettingsError(str(name), f"There is no setting {shown(str(name))}; {hint}")
        return cls(**values)  # type: ignore[arg-type]

    @property
    def aggregated(self) -> tuple[str, ...]:
        """Of :data:`AGGREGATE`, the settings that name a checkpoint."""
        return tuple(name for name in AGGREGATE if getattr(self, name) not in ("", NO_MIX))

    def changed(self) -> dict[str, Any]:
        """The settings that differ from their defaults, by name."""
        values = {name: getattr(self, name) for name in TABLE}
        return {name: value for name, value in values.items() if value != TABLE[name].default}


TABLE: Mapping[str, Setting] = {
    field.name: Setting(name=field.name, **field.metadata) for field in dataclasses.fields(Settings)
}
