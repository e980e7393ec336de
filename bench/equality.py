"""Every fast path against the three-row method: ``python -m bench.equality [--device auto]``.

The yardstick is ``bench/three_rows.py``. Narrow UNets of every family's layout with random weights; two steps with
features and attention injected, one with features alone. Random weights amplify rounding, in half precision so far
that the precision alone changes the picture more than any path does: that change is measured as well. Writes
``bench/results/equality-DEVICE.csv``.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bench.shapes import SHAPES
from bench.three_rows import (
    ATTENTION_STEPS,
    BATCHES,
    CFG_SCALE,
    FEATURE_STEPS,
    LEVELS,
    PRECISIONS,
    STEPS,
    Case,
    Picture,
    three_rows,
)
from ditail_ext.core import (
    Injection,
    PrefetchingCache,
    Region,
    Shortcut,
    SourceTrajectory,
    Window,
    sample,
)


def fast(
    case: Case,
    picture: Picture,
    shortcut: Shortcut,
    trajectory: SourceTrajectory,
    cache: PrefetchingCache,
    *,
    prompts_apart: bool = False,
    ahead: bool = False,
) -> Tensor:
    """The final latents as the project computes them."""
    windows = {"feature_window": Window(0, FEATURE_STEPS), "attention_window": Window(0, ATTENTION_STEPS)}
    region = None if case.mask is None else Region(case.mask)
    with Injection(case.unet, region=region, shortcut=shortcut, **windows) as injection:
        return sample(
            case.predict_apart if prompts_apart else case.predict,
            picture.start,
            LEVELS,
            picture.prompts,
            cfg_scale=CFG_SCALE,
            trajectory=trajectory,
            injection=injection,
            slots=lambda level: cache.slot("run", level),
            most_rows=(lambda latents: STEPS * case.sources) if ahead else None,
        )


def distance(one: Tensor, other: Tensor) -> float:
    """Relative, in the L2 norm."""
    return float((one - other).norm() / other.norm())


def errors(case: Case, shortcuts: Iterable[Shortcut] = Shortcut) -> dict[tuple[str, str], float]:
    """Relative error of fast paths, by shortcut and by what was kept.

    The first picture records its features, one level after the other or several in one call. The second, with
    another start and other prompts, finds them kept (in the host's memory) and reads its trajectory from a file, and
    where all images have one source, has its prompts evaluated in separate calls.
    """
    first, second = case.picture(10), case.picture(20)
    expected = three_rows(case, first), three_rows(case, second)
    loaded = _through_a_file(case.trajectory).to(case.device)
    found = {}
    for shortcut in shortcuts:
        cache = PrefetchingCache(0, 2**40)
        recorded = fast(case, first, shortcut, case.trajectory, PrefetchingCache(0, 0))
        ahead = fast(case, first, shortcut, case.trajectory, cache, ahead=True)
        kept = fast(case, second, shortcut, loaded, cache, prompts_apart=case.sources == 1)
        found[shortcut.value, "features recorded"] = distance(recorded, expected[0])
        found[shortcut.value, "features recorded ahead"] = distance(ahead, expected[0])
        found[shortcut.value, "features and trajectory kept"] = distance(kept, expected[1])
    return found


def precision_error(case: Case) -> float:
    """What the precision alone changes: the three-row method in it against the one in float32."""
    exact = replace(case, dtype=torch.float32)
    picture = case.picture(10)
    return distance(three_rows(case, picture), three_rows(exact, picture))


def injection_effect(case: Case) -> float:
    """What injection changes at all: a path that forgot it would be this far off."""
    picture = case.picture(10)
    plain = sample(case.predict, picture.start, LEVELS, picture.prompts, cfg_scale=CFG_SCALE)
    return distance(plain, three_rows(case, picture))


def _through_a_file(trajectory: SourceTrajectory) -> SourceTrajectory:
    with tempfile.TemporaryDirectory() as folder:
        trajectory.save(Path(folder) / "trajectory.safetensors")
        return SourceTrajectory.load(Path(folder) / "trajectory.safetensors")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    device = parser.parse_args().device
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows: list[tuple[str, ...]] = []
    for shape in vars(SHAPES).values():
        for dtype in PRECISIONS:
            for (sources, images), masked in ((batch, masked) for batch in BATCHES for masked in (False, True)):
                case = Case(shape, dtype, sources, images, masked, device)
                context = f"{precision_error(case):.1e}", f"{injection_effect(case):.2f}"
                name = shape.name, str(dtype).removeprefix("torch."), str(sources), str(images), str(masked)
                rows += [(*name, *path, f"{error:.1e}", *context) for path, error in errors(case).items()]
            print(shape.name, dtype, "worst", max(float(row[7]) for row in rows if row[:2] == name[:2]), flush=True)
    results = Path(__file__).parent / "results" / f"equality-{'gpu' if device.startswith('cuda') else 'cpu'}.csv"
    header = (*("shape", "precision", "sources", "images", "masked", "shortcut", "kept"),)
    figures = ("relative error", "precision alone", "effect of injection")
    with results.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([(*header, *figures), *rows])


if __name__ == "__main__":
    main()
