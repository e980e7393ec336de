"""CLIP's tokenizer as a local model folder, made from the byte-pair merges that OpenAI published.

The merges come with the `clip` package (`clip-anytorch` on PyPI carries it without pinning torch); the
WebUI's own environment has it too. Nothing is downloaded here.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

MERGES = "bpe_simple_vocab_16e6.txt.gz"
MERGE_COUNT = 49152 - 256 - 2
START, END = "<|startoftext|>", "<|endoftext|>"


def find_merges() -> Path:
    """The merges file in the installed `clip` package (not imported: that would need torchvision)."""
    spec = importlib.util.find_spec("clip")
    for place in (spec.submodule_search_locations if spec else None) or ():
        path = Path(place) / MERGES
        if path.exists():
            return path
    raise FileNotFoundError("CLIP's merges were not found: pip install --no-deps clip-anytorch")


def byte_names() -> list[str]:
    """A printable character for each byte, in CLIP's order (printable bytes first)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + k) for k in range(len(others))]


def write(folder: Path, merges_file: Path | None = None) -> None:
    """Write vocab.json, merges.txt and the two settings files that transformers' CLIPTokenizer reads."""
    packed = (merges_file or find_merges()).read_bytes()
    merges = gzip.decompress(packed).decode("utf-8").split("\n")[1 : MERGE_COUNT + 1]
    letters = byte_names()
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["".join(merge.split()) for merge in merges] + [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = json.dumps({word: number for number, word in enumerate(words)}, ensure_ascii=False)
    (folder / "vocab.json").write_text(vocabulary, encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1), encoding="utf-8")
    settings = {
        **special,
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
