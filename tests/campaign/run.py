"""API bodies in pieces, so that a long run can be broken off and goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness.server import WebUI
from hypothesis import HealthCheck, Phase, given, seed, settings

from .bodies import Body, bodies
from .judge import Judge, compare, flat, memory, state
from .progress import Progress

Report = Callable[[str], None]

PIECE = 250
"""Bodies after which the host's state is compared, and the run may be broken off."""

WARM = 4
"""Pieces after which the caches are full and every model has been loaded; memory is flat from then on."""


def run_bodies(webui: WebUI, progress: Progress, count: int, number: int = 1, report: Report = lambda _: None) -> None:
    """So many API bodies from a seed, but for the pieces that are done."""
    schema = webui.get("/ditail/v1/schema").body
    findings, judge = progress.findings, Judge(webui, progress.findings)
    before, start, begun, pieces = state(webui), None, time.monotonic(), 0
    for first in range(0, count, PIECE):
        piece = f"bodies {first} to {min(first + PIECE, count)} of seed {number}"
        if piece in progress:
            continue
        findings.tried["bodies"] += _each(schema, number * 100_000 + first, min(PIECE, count - first), judge.of_body)
        compare(before, state(webui), findings, piece)
        progress.add(piece)
        pieces += 1
        if pieces == WARM:
            start = memory(webui)
        report(f"{piece}: {time.monotonic() - begun:.0f} s, {memory(webui)[0]} MB, found {len(findings.found)}")
    if start is not None:
        flat(start, memory(webui), findings, "bodies")


def _each(schema: dict[str, Any], number: int, count: int, judged: Callable[[Body], None]) -> int:
    done = 0

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(bodies(schema))
    def one(body: Body) -> None:
        nonlocal done
        done += 1
        judged(body)

    one()
    return done
