"""What a campaign has done so far, in a file: it goes on where it was broken off."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from .judge import Findings


class Progress:
    """Findings, and the names of what is done, kept in a file.

    Args:
        findings: filled by the parts of the campaign.
        file: read if it is there, and written after each piece; ``None`` keeps nothing.
    """

    def __init__(self, findings: Findings, file: Path | None = None) -> None:
        self.findings = findings
        self._file = file
        self._done: set[str] = set()
        if file is not None and file.is_file():
            kept = json.loads(file.read_text("utf-8"))
            self._done = set(kept["done"])
            findings.tried, findings.found = Counter(kept["tried"]), list(kept["found"])

    def __contains__(self, piece: str) -> bool:
        """Whether a piece of the campaign is done."""
        return piece in self._done

    def add(self, piece: str) -> None:
        """A piece is done."""
        self._done.add(piece)
        if self._file is None:
            return
        kept = {"done": sorted(self._done), "tried": dict(self.findings.tried), "found": self.findings.found}
        written = self._file.with_suffix(".new")
        written.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        written.replace(self._file)
