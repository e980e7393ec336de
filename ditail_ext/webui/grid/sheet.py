"""A grid's cells as one labelled picture, and as what the host shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modules import images, shared
from modules.processing import Processed
from PIL import Image

from .order import Cell
from .store import FinishedCell


def draw_sheet(finished: Mapping[Cell, FinishedCell], labels: Sequence[str]) -> Image.Image:
    """The cells in rows of one source and columns of one target, with labels; a missing cell is left empty."""
    width, height = (max(sizes) for sizes in zip(*(cell.picture.size for cell in finished.values()), strict=True))
    empty = Image.new("RGB", (width, height), "white")
    places = [(row, column) for row in range(len(labels)) for column in range(len(labels))]
    pictures = [finished[place].picture if place in finished else empty for place in places]
    sheet = images.image_grid(pictures, rows=len(labels))
    targets = [[images.GridAnnotation(f"target: {label}")] for label in labels]
    sources = [[images.GridAnnotation(f"source: {label}")] for label in labels]
    annotated: Image.Image = images.draw_grid_annotations(sheet, width, height, targets, sources)
    return annotated


def show(p: Any, sheet: Image.Image, infotext: str, cells: Sequence[FinishedCell]) -> Processed:
    """The sheet and its cells as the result of a request."""
    infotexts = [infotext, *(cell.infotext for cell in cells)]
    pictures = [sheet, *(cell.picture for cell in cells)]
    if shared.opts.enable_pnginfo:
        for picture, text in zip(pictures, infotexts, strict=True):
            picture.info["parameters"] = text
    count = len(pictures)
    return Processed(
        p,
        pictures,
        seed=p.seed,
        subseed=p.subseed,
        info=infotext,
        infotexts=infotexts,
        index_of_first_image=1,
        all_prompts=[p.prompt] * count,
        all_negative_prompts=[p.negative_prompt] * count,
        all_seeds=[p.seed] * count,
        all_subseeds=[p.subseed] * count,
    )


def save_sheet(p: Any, processed: Processed) -> None:
    """Save the sheet among the grids, as the WebUI's X/Y/Z plot does, where grids are wanted."""
    if not shared.opts.grid_save or p.do_not_save_grid:
        return
    images.save_image(
        processed.images[0],
        p.outpath_grids,
        "ditail_grid",
        info=processed.infotexts[0],
        extension=shared.opts.grid_format,
        prompt=p.prompt,
        seed=p.seed,
        grid=True,
        p=processed,
    )
