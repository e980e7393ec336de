"""UNets of SD1.5's, SD2's and SDXL's shape with random weights, at full width or narrow for tests.

ldm has no SDXL of its own: its transformers are one block deep at every level, and its class embedding takes no
vector. Both are put in here, with the sizes of ``sd_xl_base.yaml``.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import torch
from ldm.modules.attention import SpatialTransformer
from torch import Tensor, nn

from ditail_ext.core import Condition, Prediction
from ditail_ext.standalone.architecture import SD1_CONFIG, build_unet, use_fused_attention


@dataclass(frozen=True)
class Shape:
    """A UNet's sizes and what goes into it.

    Attributes:
        name: of the model family.
        size: width and height of its usual picture, in pixels.
        context: width of the text embeddings.
        vector: width of SDXL's second condition; 0 where there is none.
        depths: transformer blocks by level, the level with the most pixels first.
        prediction: what the UNet returns.
        overrides: of SD1.5's UNet configuration.
    """

    name: str
    size: int
    context: int
    vector: int = 0
    depths: tuple[int, ...] = (1, 1, 1, 1)
    prediction: Prediction = Prediction.EPSILON
    overrides: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def narrow(self, width: int = 32, context: int = 16) -> Shape:
        """The same layout with few channels: the layers are all there, and cost next to nothing."""
        heads = {"num_heads": -1, "num_head_channels": width // 2} if "num_head_channels" in self.overrides else {}
        fewer = {**self.overrides, **(heads or {"num_heads": 4}), "model_channels": width}
        fewer["channel_mult"] = [1] * len(self.depths)
        return replace(self, size=128, context=context, vector=min(self.vector, 24), overrides=fewer)

    def at(self, size: int) -> Shape:
        """The same for pictures of another width and height."""
        return replace(self, size=size)

    def build(self) -> nn.Module:
        """The UNet, in the current default device and without gradients."""
        params = {**SD1_CONFIG["unet_config"]["params"], "context_dim": self.context, **self.overrides}
        if self.vector:
            params["num_classes"] = "continuous"
        unet: Any = build_unet({"unet_config": {"params": params}})
        if self.vector:
            width = unet.time_embed[-1].out_features
            unet.label_emb = nn.Sequential(nn.Linear(self.vector, width), nn.SiLU(), nn.Linear(width, width))
        self._deepen(unet)
        use_fused_attention(unet)
        return unet.eval().requires_grad_(False)

    def condition(self, rows: int, **make: Any) -> Condition:
        """A random prompt's embeddings; ``make`` says generator, device and type."""
        tokens = torch.randn(rows, 77, self.context, **make)
        return {"crossattn": tokens, "vector": torch.randn(rows, self.vector, **make)} if self.vector else tokens

    def _deepen(self, unet: nn.Module) -> None:
        """Exchange the transformers of levels that have more than one block."""
        encoder, decoder, lowest = unet.get_submodule("input_blocks"), unet.get_submodule("output_blocks"), -1
        levels = [((index - 1) // 3, block) for index, block in enumerate(encoder.children()) if index]
        levels += [(lowest - index // 3, block) for index, block in enumerate(decoder.children())]
        for level, block in [*levels, (lowest, unet.get_submodule("middle_block"))]:
            for name, child in list(block.named_children()):
                if isinstance(child, SpatialTransformer) and self.depths[level] > 1:
                    setattr(block, name, self._deep(child, self.depths[level]))

    def _deep(self, shallow: SpatialTransformer, depth: int) -> _DeepTransformer:
        attention = shallow.transformer_blocks[0].attn1
        head = attention.to_q.out_features // attention.heads
        with contextlib.redirect_stdout(io.StringIO()):  # ldm prints while it builds
            return _DeepTransformer(
                shallow.in_channels,
                attention.heads,
                head,
                depth=depth,
                context_dim=[self.context] * depth,
                use_linear=shallow.use_linear,
                use_checkpoint=False,
            )


class _DeepTransformer(SpatialTransformer):
    """ldm's wants the text embeddings once for each of its blocks."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(x, [context] * len(self.transformer_blocks))


_HEADS_OF_64 = {"num_heads": -1, "num_head_channels": 64, "use_linear_in_transformer": True}

SHAPES = SimpleNamespace(
    sd15=Shape("SD1.5", 512, 768),
    sd2=Shape("SD2", 768, 1024, prediction=Prediction.V, overrides=_HEADS_OF_64),
    sdxl=Shape(
        "SDXL",
        1024,
        2048,
        vector=2816,
        depths=(1, 2, 10),
        overrides={**_HEADS_OF_64, "channel_mult": [1, 2, 4], "attention_resolutions": [4, 2]},
    ),
)
