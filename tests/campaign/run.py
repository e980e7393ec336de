"""The campaign's parts, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.server import WebUI
from hypothesis import HealthCheck, Phase, given, seed, settings

from .bodies import Body, bodies
from .judge import Findings, compare, flat, judge, memory, state

Report = Callable[[str], None]


def run_bodies(webui: WebUI, findings: Findings, count: int, number: int, report: Report = lambda _: None) -> None:
    """So many API bodies from a seed; the host's state is compared now and then."""
    schema = webui.get("/ditail/v1/schema").body
    before, start, begun = state(webui), [memory(webui)], time.monotonic()
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
        judge(webui, body, findings)
        if done == count // 4:
            start[0] = memory(webui)
        if done % 250 == 0:
            compare(before, state(webui), findings, f"the bodies up to {done}")
            report(f"{done} bodies, {time.monotonic() - begun:.0f} s, found {len(findings.found)}")
        webui.probe.reset()

    one()
    findings.tried["bodies"] += done
    compare(before, state(webui), findings, f"{done} bodies")
    flat(start[0], memory(webui), findings, f"{done} bodies")
