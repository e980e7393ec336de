"""docs/troubleshooting.md quotes what the code says, word for word."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from ditail_ext.settings import TABLE

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
ANY = "…"


@functools.cache
def said() -> list[str]:
    """Every text of the code, with :data:`ANY` for what is put in."""
    texts = []
    for path in (ROOT / "ditail_ext").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else ANY for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def quoted() -> list[str]:
    """What the page quotes: whole sentences, and what stands in the first column of the last table."""
    quotes = re.findall(r'"([^"]*)"', PAGE.replace("\n", " "))
    others = ("A tensor with NaNs", "Ditail range")
    return [quote for quote in quotes if len(quote) > 23 and not quote.startswith(others)]


def fragments(quote: str) -> list[str]:
    """A quote's fixed parts, without the label before them."""
    labels = "|".join(re.escape(setting.label) for setting in TABLE.values())
    plain = re.sub(rf"^(Ditail: )?(injection: |({labels}):? )?", "", quote)
    return [part.strip() for part in plain.split(ANY) if len(part.strip()) > 3]


def test_there_are_quotes():
    assert len(quoted()) > 25


@pytest.mark.parametrize("quote", quoted())
def test_the_code_says_it(quote: str):
    texts = said()
    together = "\n".join(texts)
    for part in fragments(quote):
        assert part in together, part


def test_a_sentence_that_nobody_says():
    together = "\n".join(said())
    assert not any(part in together for part in fragments("Source VAE: '…' is made of cheese; eat it."))
