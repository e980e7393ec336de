"""Where a UNet is injected: the table of families and layers, and the search for their modules.

The layers are Plug-and-Play's (arXiv 2211.12572), which Ditail takes over: the residual feature of decoder
block 4 and the self-attention queries and keys of decoder blocks 4-11 of the SD1/SD2 UNet. For SDXL the paper
defines none; Ctrl-X (arXiv 2406.07540) injects block 0's feature and the self-attention of blocks 0-2, which
have the same stride, and leaves out block 1's feature, which B-LoRA and InstantStyle found to carry the style.

The profile "full" is ours: where one feature does not carry the layout (UNets with much of their width near the
picture's own resolution), the features of all later decoder blocks do, at the price of the source's look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from torch import nn

from ...errors import UnsupportedModelError

DEFAULT_PROFILE = "default"
STRONG_PROFILE = "strong"
FULL_PROFILE = "full"


class SiteKind(Enum):
    """What is recorded and replayed at a site."""

    FEATURE = "feature"
    QUERY = "query"
    KEY = "key"


@dataclass(frozen=True)
class Site:
    """One module whose output is recorded and replayed; ``name`` is its path within the UNet."""

    name: str
    kind: SiteKind
    module: nn.Module = field(repr=False, compare=False)


@dataclass(frozen=True)
class LayerProfile:
    """Decoder blocks (``output_blocks``) whose feature, and whose self-attention, are injected."""

    feature_blocks: tuple[int, ...]
    attention_blocks: tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """A UNet layout, recognised by where its decoder has transformers."""

    name: str
    output_blocks: int
    transformer_blocks: tuple[int, ...]
    profiles: dict[str, LayerProfile]


FAMILIES = (
    Family(
        "SD1/SD2",
        output_blocks=12,
        transformer_blocks=tuple(range(3, 12)),
        profiles={
            DEFAULT_PROFILE: LayerProfile((4,), tuple(range(4, 12))),
            STRONG_PROFILE: LayerProfile((4,), tuple(range(3, 12))),
            FULL_PROFILE: LayerProfile(tuple(range(4, 12)), tuple(range(3, 12))),
        },
    ),
    Family(
        "SDXL",
        output_blocks=9,
        transformer_blocks=tuple(range(6)),
        profiles={
            DEFAULT_PROFILE: LayerProfile((0,), (0, 1, 2)),
            STRONG_PROFILE: LayerProfile((0,), tuple(range(6))),
            FULL_PROFILE: LayerProfile((0, *range(2, 9)), tuple(range(6))),
        },
    ),
)

PROFILE_NAMES = (DEFAULT_PROFILE, STRONG_PROFILE, FULL_PROFILE)

_REFUSAL = "Ditail works with SD1.x, SD2.x and SDXL base checkpoints; choose one of these."


def detect_family(unet: nn.Module) -> Family:
    """The family of an ldm or sgm UNet, by its decoder's layout.

    Raises:
        UnsupportedModelError: it is none that Ditail knows (SD3, SSD-1B, the SDXL refiner and others).
    """
    decoder = getattr(unet, "output_blocks", None)
    middle = getattr(unet, "middle_block", None)
    if not isinstance(decoder, nn.ModuleList) or not isinstance(middle, nn.Sequential):
        raise UnsupportedModelError(f"This model ({type(unet).__name__}) has no ldm UNet. {_REFUSAL}")
    with_transformer = tuple(index for index, block in enumerate(decoder) if any(_transformers(block)))
    for family in FAMILIES:
        if (len(decoder), with_transformer) == (family.output_blocks, family.transformer_blocks):
            if len(middle) != 3:
                break
            return family
    raise UnsupportedModelError(
        f"This UNet has {len(decoder)} decoder blocks with transformers in {list(with_transformer)}, a layout "
        f"that Ditail does not know. {_REFUSAL}"
    )


def find_sites(unet: nn.Module, profile: str | LayerProfile = DEFAULT_PROFILE) -> tuple[Site, ...]:
    """The injection sites of a UNet, in the order in which a forward pass reaches them.

    A feature site is the last layer of a residual block's ``out_layers``: its output is the hidden state before
    the skip connection is added. Attention sites are ``attn1.to_q`` and ``attn1.to_k``: before the split into
    heads, whatever attention kernel follows, with any LoRA applied.

    Raises:
        UnsupportedModelError: the UNet's family or the profile is unknown, or a block of the profile has no
            such layer.
    """
    family = detect_family(unet)
    if isinstance(profile, str):
        if profile not in family.profiles:
            raise UnsupportedModelError(
                f"There is no layer profile '{profile}' for {family.name}; choose one of {', '.join(family.profiles)}."
            )
        profile = family.profiles[profile]
    decoder = unet.get_submodule("output_blocks")
    sites: list[Site] = []
    for index, block in enumerate(decoder.children()):
        path = f"output_blocks.{index}"
        if index in profile.feature_blocks:
            sites += _require(_feature_sites(path, block), path, "residual block")
        if index in profile.attention_blocks:
            sites += _require(_attention_sites(path, block), path, "self-attention")
    beyond = [index for index in (*profile.feature_blocks, *profile.attention_blocks) if index >= len(decoder)]  # type: ignore[arg-type]
    if beyond or not sites:
        raise UnsupportedModelError(
            f"The layer profile names blocks {beyond or 'of no kind'}, but {family.name} has blocks 0 to "
            f"{family.output_blocks - 1}."
        )
    return tuple(sites)


def _require(found: list[Site], path: str, what: str) -> list[Site]:
    if not found:
        raise UnsupportedModelError(f"{path} of this UNet has no {what} to inject into. {_REFUSAL}")
    return found


def _transformers(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in block.named_children():
        if isinstance(getattr(child, "transformer_blocks", None), nn.ModuleList):
            yield name, child


def _feature_sites(path: str, block: nn.Module) -> list[Site]:
    for name, child in block.named_children():
        layers = getattr(child, "out_layers", None)
        if isinstance(layers, nn.Sequential) and len(layers):
            last = len(layers) - 1
            return [Site(f"{path}.{name}.out_layers.{last}", SiteKind.FEATURE, layers[last])]
    return []


def _attention_sites(path: str, block: nn.Module) -> list[Site]:
    sites: list[Site] = []
    for name, transformer in _transformers(block):
        for depth, layer in transformer.get_submodule("transformer_blocks").named_children():
            attention = getattr(layer, "attn1", None)
            query, key = getattr(attention, "to_q", None), getattr(attention, "to_k", None)
            if isinstance(query, nn.Module) and isinstance(key, nn.Module):
                prefix = f"{path}.{name}.transformer_blocks.{depth}.attn1"
                sites.append(Site(f"{prefix}.to_q", SiteKind.QUERY, query))
                sites.append(Site(f"{prefix}.to_k", SiteKind.KEY, key))
    return sites
