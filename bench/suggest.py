"""Does *Suggest a source* name the checkpoint that a picture was made by? ``python -m bench.suggest --tokenizer DIR``

Held-out scenes drawn in each style, with their captions, and every shipped checkpoint as a candidate; the base, which
knows all styles, stands in one's way as it would for a person. Writes bench/results/suggest.csv, a row a scene.
"""

from __future__ import annotations

import argparse
import csv
import logging
import time
from pathlib import Path

import torch
from torch import Tensor

from demo.parts import SHIPPED, UNETS, Models, load
from demo.styles import CHECKPOINT_STYLES, draw
from demo.train.unet import SIDE
from demo.train.vae import to_tensor
from demo.world import Scene, caption, make_scene
from ditail_ext.core import NoiseSchedule, ldm_noise_predictor
from ditail_ext.core.suggest import Ranking, levels_of, noise_errors, noise_like, rank

log = logging.getLogger(__name__)
RESULTS = Path(__file__).parent / "results" / "suggest.csv"
FIRST_SCENE = 50_000
LEVELS = levels_of(NoiseSchedule.stable_diffusion())


@torch.no_grad()
def latent_of(models: Models, scene: Scene, style: str) -> Tensor:
    """A drawn scene through the VAE that all checkpoints share."""
    picture = to_tensor(draw(scene, style, SIDE)[None])
    latent: Tensor = models.vae.encode(picture)[0][None] * models.scale_factor
    return latent.reshape(1, 4, SIDE // 8, SIDE // 8)


def ranking_of(candidates: dict[str, Models], latent: Tensor, prompt: str) -> Ranking:
    """The candidates by how well they know a picture."""
    noise = noise_like(latent)
    errors = {}
    for name, models in candidates.items():
        cond = models.text(models.vocabulary.batch([prompt]))
        errors[name] = noise_errors(ldm_noise_predictor(models.unet), latent, noise, LEVELS, cond)
    return rank(errors)


def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=120)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    candidates = {name: load(SHIPPED, name, options.tokenizer) for name in UNETS}
    rows = [row_of(index, candidates) for index in range(options.scenes)]
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    tell(rows)


def row_of(index: int, candidates: dict[str, Models]) -> dict[str, str]:
    """One scene in one style, looked at by the three styles, with the base among them, and with no prompt."""
    seed = FIRST_SCENE + index
    scene, style = make_scene(seed), CHECKPOINT_STYLES[index % len(CHECKPOINT_STYLES)]
    latent, prompt = latent_of(candidates["base"], scene, style), caption(scene)
    styles = {name: models for name, models in candidates.items() if name != "base"}
    begun = time.perf_counter()
    all_four = ranking_of(candidates, latent, prompt)
    seconds = time.perf_counter() - begun
    three, blind = ranking_of(styles, latent, prompt), ranking_of(styles, latent, "")
    return {
        "scene": str(seed),
        "style": style,
        "of_styles": three.models[0].name,
        "sureness": three.sureness.value,
        "lead": f"{three.models[1].excess:.4f}",
        "with_base": all_four.models[0].name,
        "with_base_best": "+".join(sorted(all_four.best)),
        "with_base_next": f"{all_four.models[len(all_four.best)].excess:.4f}",
        "without_prompt": blind.models[0].name,
        "seconds": f"{seconds:.3f}",
    }


def tell(rows: list[dict[str, str]]) -> None:
    """What the rows come to."""
    for column in ("of_styles", "with_base", "without_prompt"):
        right = sum(row[column] == row["style"] for row in rows)
        log.info("%s: right style first in %d of %d", column, right, len(rows))
    among = sum(row["style"] in row["with_base_best"].split("+") for row in rows)
    others = sum(bool(set(row["with_base_best"].split("+")) - {row["style"], "base"}) for row in rows)
    log.info("with_base: right style among the best in %d, a wrong style among them in %d", among, others)
    log.info(
        "mean seconds for four checkpoints in memory: %.2f", sum(float(row["seconds"]) for row in rows) / len(rows)
    )


if __name__ == "__main__":
    main()
