"""A spawned process imports no package's ``__main__``: what it is to run must be defined elsewhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HANDING_OVER = {"ProcessPoolExecutor", "map", "submit", "Process"}
MAINS = sorted(path for part in ("bench", "demo", "ditail_ext") for path in (ROOT / part).rglob("__main__.py"))


def handed_over(source: str) -> set[str]:
    """Functions of a module's own that it gives to another process."""
    tree = ast.parse(source)
    own = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    given: set[str] = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name in HANDING_OVER:
            words = [*call.args, *(word.value for word in call.keywords)]
            given |= {word.id for word in words if isinstance(word, ast.Name)}
    return own & given


@pytest.mark.parametrize("path", MAINS, ids=[path.parent.name for path in MAINS])
def test_what_a_worker_runs_is_not_in_a_main(path: Path):
    assert handed_over(path.read_text("utf-8")) == set()


def test_it_is_seen():
    assert handed_over("def run(x): ...\npool.submit(run, 1)\npool.map(other, [])") == {"run"}
    assert handed_over("def start(): ...\nProcessPoolExecutor(2, context, initializer=start)") == {"start"}
