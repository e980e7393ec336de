"""Prompts to embeddings: CLIP's text model from ``transformers``, its vocabulary from an installed package."""

from __future__ import annotations

import gzip
import importlib.util
import json
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..errors import CheckpointError, ConditioningError
from .checkpoint import TEXT, Checkpoint, load_weights

MAX_TOKENS = 75
"""Of a prompt, between CLIP's begin and end marks."""

SD1_TEXT_CONFIG = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
}
_MERGES = 49152 - 256 - 2  # how many of the merges CLIP uses; the file holds more


class TextEncoder:
    """One checkpoint's text encoder, in float32."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        """Load it.

        Raises:
            CheckpointError: the checkpoint's text encoder is incomplete, or not CLIP's of SD1.x.
        """
        self._tokenizer = clip_tokenizer()
        self._device = device
        model = build_text_model(checkpoint)
        load_weights(model, checkpoint, TEXT, "text encoder", torch.float32)
        self._model = model.to(device)

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:
        """Embeddings (1, 77, width) of one prompt; plain text, without the WebUI's emphasis syntax.

        Raises:
            ConditioningError: the prompt is longer than 75 tokens.
        """
        ids = self._tokenizer(prompt).input_ids
        if len(ids) - 2 > MAX_TOKENS:
            raise ConditioningError(
                f'The prompt "{prompt[:40]}..." has {len(ids) - 2} tokens, but at most {MAX_TOKENS} are read; '
                "shorten it."
            )
        padded = ids + [self._tokenizer.eos_token_id] * (MAX_TOKENS + 2 - len(ids))
        return self._model(input_ids=torch.tensor([padded], device=self._device)).last_hidden_state


def build_text_model(checkpoint: Checkpoint) -> CLIPTextModel:
    """The text model on the meta device, by its ``config.json`` or by SD1.5's sizes.

    Raises:
        CheckpointError: the ``config.json`` cannot be read.
    """
    folder = checkpoint.text_folder
    try:
        known = folder is not None and (folder / "config.json").is_file()
        config = CLIPTextConfig.from_pretrained(folder) if known else CLIPTextConfig(**SD1_TEXT_CONFIG)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The text encoder's configuration in {folder} cannot be read; mend it.") from error
    with torch.device("meta"):
        model = CLIPTextModel(config)
    # The stored position ids are whole numbers that careless merging has rounded in many files: never read.
    positions = torch.arange(config.max_position_embeddings).expand(1, -1)
    model.text_model.embeddings.register_buffer("position_ids", positions, persistent=False)
    return model.eval().requires_grad_(False)


@cache
def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer, from the vocabulary that the package ``clip-anytorch`` carries.

    It is the same for all checkpoints, so it is made once.

    Raises:
        CheckpointError: the package is not installed.
    """
    spec = importlib.util.find_spec("clip")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [Path(folder) / "bpe_simple_vocab_16e6.txt.gz" for folder in folders]
    source = next((file for file in files if file.is_file()), None)
    if source is None:
        raise CheckpointError("CLIP's vocabulary is not installed; install the package clip-anytorch.")
    merges = gzip.decompress(source.read_bytes()).decode("utf-8").split("\n")[1 : _MERGES + 1]
    letters = list(_byte_letters())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair.split()) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, rules = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        vocabulary.write_text(json.dumps({word: index for index, word in enumerate(words)}), encoding="utf-8")
        rules.write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
        return CLIPTokenizer(str(vocabulary), str(rules), pad_token="<|endoftext|>", model_max_length=10**6)


def _byte_letters() -> dict[str, int]:
    """The letters that stand for the 256 bytes in byte-level BPE, in the vocabulary's order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return {**letters, **{chr(256 + index): byte for index, byte in enumerate(others)}}
