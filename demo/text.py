"""Captions to embeddings: CLIP's tokenizer, a compact vocabulary, the shared text encoder.

The drawn world has some forty words. Training keeps one embedding row for each of their tokens and one row
that stands for all others, so a word the world does not know is a word without effect, and the shipped file
is small. `demo.assemble` expands the rows to CLIP's 49408.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from demo.nets import TOKENS, make_text_model
from demo.styles import STYLES
from demo.world import BACKGROUNDS, COLOURS, POSITIONS, SHAPES, SIZES

START, END, UNKNOWN = 0, 1, 2  # rows of the compact embedding
WORDS = (*SHAPES, *COLOURS, *SIZES, *BACKGROUNDS, *STYLES, "style", "left", "of", "above", "and", "on", ",")


class Vocabulary:
    """CLIP token ids of the world's words, and the way from a caption to rows of the compact embedding."""

    def __init__(self, tokenizer_folder: Path) -> None:
        from transformers import CLIPTokenizer

        self.tokenizer = CLIPTokenizer.from_pretrained(str(tokenizer_folder))
        text = " ".join((*WORDS, *POSITIONS, "a"))
        start, *known, end = self.tokenizer(text)["input_ids"]
        self.clip_ids: list[int] = [start, end, *sorted(set(known))]
        self.row = {start: START, end: END}
        self.row |= {token: UNKNOWN + 1 + k for k, token in enumerate(self.clip_ids[2:])}
        self._known: dict[str, list[int]] = {}

    @property
    def rows(self) -> int:
        """Rows of the compact embedding: start, end, unknown and one per known token."""
        return len(self.clip_ids) + 1

    def encode(self, text: str) -> list[int]:
        """Rows of a caption's tokens, without start and end."""
        if text not in self._known:
            ids = self.tokenizer(text)["input_ids"][1:-1]
            self._known[text] = [self.row.get(token, UNKNOWN) for token in ids]
        return self._known[text]

    def batch(self, texts: list[str], rng: np.random.Generator | None = None) -> torch.Tensor:
        """Rows (n, 77) int64, padded with the end token as SD does. `rng` strews unknown words about."""
        out = torch.full((len(texts), TOKENS), END, dtype=torch.int64)
        out[:, 0] = START
        for index, text in enumerate(texts):
            rows = list(self.encode(text))
            if rng is not None and rng.random() < 0.15:
                place = 0 if rng.random() < 0.5 else len(rows)
                rows[place:place] = [UNKNOWN] * int(rng.integers(1, 7))
            rows = rows[: TOKENS - 2]
            out[index, 1 : 1 + len(rows)] = torch.tensor(rows, dtype=torch.int64)
        return out


class TextEncoder(nn.Module):
    """CLIP's text model over the compact vocabulary."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.model = make_text_model(rows)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (n, 77) to embeddings (n, 77, 64), after the final LayerNorm."""
        return self.model(input_ids=rows).last_hidden_state

    def weights(self) -> dict[str, torch.Tensor]:
        """The state under names that do not depend on the version of transformers."""
        return neutral(self.state_dict())

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take what `weights` or `neutral` gave."""
        own = self.state_dict()
        names = {name: next(iter(neutral({name: tensor})), None) for name, tensor in own.items()}
        if {name for name in names.values() if name} != set(weights):
            raise ValueError("these are not the weights of this text encoder")
        self.load_state_dict({name: weights[short] if short else own[name] for name, short in names.items()})


def neutral(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A text encoder's state without what only some versions of transformers have: a level of names, a buffer."""
    short = {name.removeprefix("model.").removeprefix("text_model."): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in short.items() if not name.endswith("position_ids")}
