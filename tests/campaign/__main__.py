"""``python -m tests.campaign``: the long part, with progress and a summary; exit status 1 if anything was found.

With ``--state FILE`` it may be broken off at any time and goes on where it was.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))

from harness.models import checkpoints
from harness.server import Setup, WebUI

from . import faults, generations, run
from .judge import Findings
from .progress import Progress

logger = logging.getLogger("campaign")


def main() -> int:
    """Run the parts that were asked for on a WebUI of their own."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--bodies", type=int, default=10_000, help="API bodies")
    parser.add_argument("--generations", type=int, default=500, help="mixed generations")
    parser.add_argument("--no-faults", action="store_true", help="leave the injected faults out")
    parser.add_argument("--seed", type=int, default=1, help="another one tries others")
    parser.add_argument("--state", type=Path, help="file for what is done; a campaign that was broken off goes on")
    parser.add_argument("--out", type=Path, help="file for the summary")
    wanted = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the WebUI is ended, too
    progress = Progress(Findings(), wanted.state)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.make_all(Path(folder))
        webui = WebUI(Path(folder), Setup())
        try:
            if not wanted.no_faults:
                faults.run(webui, progress)
            if wanted.bodies:
                run.run_bodies(webui, progress, wanted.bodies, wanted.seed, logger.info)
            if wanted.generations:
                generations.run(webui, progress, wanted.generations, wanted.seed, logger.info)
        finally:
            webui.stop()
            logger.info("%s", progress.findings)
            if wanted.out:
                wanted.out.write_text(str(progress.findings), encoding="utf-8")
    return 1 if progress.findings.found else 0


if __name__ == "__main__":
    sys.exit(main())
