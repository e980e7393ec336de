"""What must hold whatever was asked: no silent plain picture, a sentence for each refusal, the host as it was."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from harness.client import TIMEOUT, Answer, circle, encode
from harness.server import WebUI

from .bodies import Body

HOSTS_OWN = ("Integer exceeds 64-bit range", "str is not valid UTF-8: surrogates not allowed")
"""The host repeats a request in its answer, and cannot write such a number or text, whatever it was for."""

NOTHING = 'Ditail injection: "none'

PICTURE = encode(circle(64))
"""What img2img starts with."""

logger = logging.getLogger("campaign")

LONGEST = 700
"""Characters of a sentence."""

MEGABYTES = 96
"""What the process may grow by between the first part of a run and its end: caches fill, allocators keep."""


@dataclass
class Findings:
    """What was tried and what was found."""

    tried: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)

    def add(self, what: str, case: object) -> None:
        """Remember a finding with its case, not at any length."""
        self.found.append(f"{what}: {str(case)[:900]}")
        logger.info("%s", self.found[-1])

    def __str__(self) -> str:
        lines = [f"{name}: {count}" for name, count in sorted(self.tried.items())]
        return "\n".join([*lines, f"found: {len(self.found)}", *self.found])


def send(webui: WebUI, body: Body, *, ditail: bool = True) -> Answer:
    """Send a body, or its twin that does not ask for Ditail; JSON may say NaN."""
    payload = {**body.request, "save_images": False}
    if body.tab == "img2img":
        payload |= {"init_images": [PICTURE], "denoising_strength": 1.0}
    if ditail:
        payload["alwayson_scripts"] = {"Ditail": {"args": body.args}}
    response = requests.post(
        f"{webui.url}/sdapi/v1/{body.tab}",
        data=json.dumps(payload),
        headers={"Content-Type": "application/json"},
        timeout=TIMEOUT,
    )
    try:
        return Answer(response.status_code, response.json())
    except ValueError:
        return Answer(response.status_code, response.text)


class Judge:
    """Judges bodies by their answers; where that is a picture, by the picture of the body's twin without Ditail."""

    def __init__(self, webui: WebUI, findings: Findings) -> None:
        self._webui = webui
        self._findings = findings
        self._twins: dict[str, tuple[int, list[bytes]]] = {}

    def of_body(self, body: Body) -> None:
        """Send it, and add what is wrong with the answer to the findings."""
        answer, findings = send(self._webui, body), self._findings
        findings.tried[f"bodies answered {answer.status}"] += 1
        if answer.sentence in HOSTS_OWN and not (body.asks and isinstance(body.args[0], dict)):
            return  # by name each argument is looked at; by position there may be more than there are
        wrong = self._of_picture(body, answer) if answer.status == 200 else _of_sentence(answer)
        if wrong and (answer.status == 200 or self._twin(body)[0] == 200):
            findings.add(wrong, (answer.status, answer.sentence if answer.status != 200 else answer.infotext, body))

    def _of_picture(self, body: Body, answer: Answer) -> str | None:
        texts = answer.info["infotexts"]
        said = all("Ditail version" in text for text in texts)
        if any("Ditail show content: True" in text for text in texts):
            said = True  # the content pictures are the source's own, and say so
        if not body.asks:
            return "an infotext of Ditail's that was not asked for" if said else None
        if not said:
            return "a silent plain picture, by its infotext"
        self._findings.tried["bodies answered with a picture of Ditail's"] += 1
        if any(NOTHING in text for text in texts):
            return None  # it says itself that it changed nothing
        status, pixels = self._twin(body)
        return "a silent plain picture" if status == 200 and pixels == answer.pixels else None

    def _twin(self, body: Body) -> tuple[int, list[bytes]]:
        """Status and pixels of the body without Ditail; many bodies have the same twin."""
        key = json.dumps([body.tab, body.request], sort_keys=True)
        if key not in self._twins:
            plain = send(self._webui, body, ditail=False)
            self._twins[key] = plain.status, plain.pixels if plain.status == 200 else []
        return self._twins[key]


def _of_sentence(answer: Answer) -> str | None:
    sentence = answer.sentence
    if answer.status >= 500 and answer.status != 503:
        return "a server's error"
    if not sentence.startswith("Ditail: ") or not sentence.rstrip().endswith((".", "?", ")")):
        return "no sentence of Ditail's"
    if len(sentence) > LONGEST or "Traceback" in sentence or "Error" in sentence.split(":")[0]:
        return "no sentence for people"
    return None


def memory(webui: WebUI) -> tuple[int, int]:
    """Of the WebUI's process: resident memory in MB, and open files."""
    process = Path("/proc") / str(webui.pid)
    resident = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1]) // 1024, len(list((process / "fd").iterdir()))


def state(webui: WebUI) -> dict[str, Any]:
    """The host's state after an ordinary request, and that request's picture."""
    webui.probe.reset()
    # With one step DDIM would not call the UNet.
    plain = webui.txt2img(steps=2, width=64, height=64, override_settings={"sd_model_checkpoint": "alpha.safetensors"})
    assert plain.status == 200, plain.body
    found = webui.probe.state()
    # The host's own script for comments in prompts is there twice after its first start, and once after "Reload UI".
    found["callbacks"] = {
        name: n for name, n in found["callbacks"].items() if name != "callbacks_before_token_counter"
    }
    return {**found, "picture": plain.pixels}


def compare(before: dict[str, Any], after: dict[str, Any], findings: Findings, case: object) -> None:
    """Both of :func:`state`."""
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        findings.add(f"the host is not as it was ({', '.join(changed)})", case)


def flat(before: tuple[int, int], after: tuple[int, int], findings: Findings, case: object) -> None:
    """Both of :func:`memory`."""
    findings.tried[f"MB before {case}"], findings.tried[f"MB after {case}"] = before[0], after[0]
    if after[0] - before[0] > MEGABYTES or after[1] - before[1] > 8:
        findings.add(f"memory (MB) and open files grew from {before} to {after}", case)
