"""What does aggregation carry over? AMDM's merged first steps against injection, on held-out drawn scenes.

The quality bench's scenes, pairs, judge and measures (`bench.quality`). The source's latents are merged into the
target's after the first steps, from the inverted picture or from the noise of the source's own.
`python -m bench.aggregation` measures what is missing in out/aggregation, then writes bench/results/aggregation.csv,
aggregation-pairs.csv and docs/aggregation.png (needs matplotlib). It can be stopped and run again.

    python -m bench.aggregation [--scenes 54] [--workers 1] [--report-only]
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from bench.aggregation.measure import measure
from bench.quality.__main__ import scene_count
from demo.parts import SHIPPED

OUT = Path(__file__).parents[2] / "out" / "aggregation"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, default=SHIPPED)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--scenes", type=scene_count, default=54)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not options.report_only:
        measure(options.parts, options.out, options.scenes, options.workers)
    from bench.aggregation import report  # last, and here: it needs matplotlib

    report.write(options.out)


if __name__ == "__main__":
    main()
