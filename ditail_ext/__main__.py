"""``python -m ditail_ext``."""

from __future__ import annotations

import logging
import sys

from .standalone.cli import main

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("ditail").setLevel(logging.INFO)
    sys.exit(main())
