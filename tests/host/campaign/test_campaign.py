"""The campaign's quick part; ``python -m tests.campaign`` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.server import WebUI

from tests.campaign import faults, generations, judge, run
from tests.campaign.judge import Findings
from tests.campaign.progress import Progress


@pytest.fixture
def findings(webui: WebUI) -> Findings:
    webui.post("/ditail/v1/cache/clear")
    return Findings()


def test_bodies(webui: WebUI, findings: Findings):
    run.run_bodies(webui, Progress(findings), 80)
    assert findings.found == []
    assert findings.tried["bodies"] >= 80
    assert findings.tried["bodies answered 200"] > 0
    assert findings.tried["bodies answered 422"] > 0


def test_faults(webui: WebUI, findings: Findings):
    names = [fault.name for fault in faults.faults()]
    assert len(names) == len(set(names)) > 300
    faults.run(webui, Progress(findings), every=37)
    assert findings.found == []
    assert findings.tried["faults"] == len(range(0, len(names), 37))


def test_generations(webui: WebUI, findings: Findings):
    generations.run(webui, Progress(findings), 12)
    assert findings.found == []
    assert findings.tried["generations"] == 12


def test_it_goes_on_where_it_was_broken_off(webui: WebUI, findings: Findings, tmp_path: Path):
    state = tmp_path / "state.json"
    first = Progress(findings, state)
    findings.tried["bodies"], piece = 40, "bodies 0 to 40 of seed 1"
    findings.add("a finding", "a case")
    first.add(piece)
    again = Progress(Findings(), state)
    assert piece in again
    assert "bodies 40 to 80 of seed 1" not in again
    run.run_bodies(webui, again, 40)
    assert again.findings.tried["bodies"] == 40
    assert again.findings.found == ["a finding: a case"]


class TestTheJudgeSeesWhatIsWrong:
    """Each rule of the judge's, with an answer that breaks it."""

    @pytest.mark.parametrize(
        ("status", "sentence"),
        [
            (500, "division by zero"),
            (422, "SettingsError: feature_ratio must be from 0 to 1, not 2."),
            (422, "Ditail: Feature ratio: must be from 0 to 1, not " + "9" * 3000 + "."),
            (422, "Ditail: no end"),
            (404, "Not Found"),
        ],
    )
    def test_sentences(self, status: int, sentence: str):
        answer = judge.Answer(status, {"detail": sentence})
        assert judge._of_sentence(answer) is not None

    def test_a_good_one(self):
        answer = judge.Answer(422, {"detail": "Ditail: Feature ratio: must be from 0 to 1, not 2."})
        assert judge._of_sentence(answer) is None

    def test_a_changed_host(self, findings: Findings):
        judge.compare({"loras": []}, {"loras": ["tiny"]}, findings, "a case")
        judge.flat((100, 10), (400, 10), findings, "a case")
        judge.flat((100, 10), (100, 40), findings, "a case")
        assert len(findings.found) == 3
