"""The m x m sheet: every style's content in every style, one ordinary Ditail request a cell."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modules import paths_internal, processing, sd_vae, shared

from ...errors import DitailError, SettingsError
from ..cache import memory as cache
from ..failure import raise_visibly
from ..host.installed import require_selected
from ..options import cache_bytes, grid_bytes
from ..request.arguments import Request, parse_request
from ..source.models import load_target
from .cells import CHECKPOINT, cell_key, cell_request, grid_facts, told_to_sources
from .controls import sheet_infotext
from .order import Cell, plan
from .sheet import draw_sheet, save_sheet, show
from .store import FOLDER, CellStore, FinishedCell
from .styles import Style, named_arguments, read_styles

logger = logging.getLogger("ditail")

_SELECTION = (CHECKPOINT, "sd_checkpoint_hash")
"""The host's options that loading a checkpoint changes."""


def make_grid(p: Any, args: Sequence[object], own: slice, panel: Sequence[object]) -> processing.Processed:
    """Make, or finish, a grid; the checkpoint that was loaded before is loaded again at the end.

    Args:
        p: the host's request.
        args: the grid script's.
        own: where these lie among the arguments of all scripts.
        panel: Ditail's own arguments.

    Raises:
        Ditail: the request cannot be fulfilled.
    """
    try:
        return _Grid(p, args, own, panel).run()
    except (DitailError, RuntimeError, MemoryError) as error:
        raise_visibly(error)


class _Grid:
    def __init__(self, p: Any, args: Sequence[object], own: slice, panel: Sequence[object]) -> None:
        self._p = p
        self._own = own
        self._checkpoints, self._loras = named_arguments(args)
        request = _ditail_request(panel)
        self._settings = request.settings
        self._styles = read_styles(self._checkpoints, self._loras, _selected(p))
        self._told = told_to_sources(p, request, self._styles)
        _check_size(p, len(self._styles))
        _one_picture_a_cell(p)
        self._store = CellStore(Path(p.outpath_grids or paths_internal.default_output_dir) / FOLDER)
        self._seeds = self._fix_seeds()
        self._keys = self._all_keys()
        self._finished: dict[Cell, FinishedCell] = {}

    def run(self) -> processing.Processed:
        """Make what is missing, and show what there is."""
        kept = {place: self._store.get(key) for place, key in self._keys.items()}
        self._finished = {place: cell for place, cell in kept.items() if cell is not None}
        if len(self._finished) < len(self._keys):
            with _checkpoint_restored(), cache.trajectories.holding(cache_bytes()):
                self._make_missing()
        return self._result()

    def _make_missing(self) -> None:
        missing = [place for place in self._keys if place not in self._finished]
        logger.info("Ditail grid: %d of %d cells to make", len(missing), len(self._keys))
        shared.state.job_count = len(missing)
        shared.total_tqdm.updateTotal(len(missing) * self._p.steps)
        homes = [style.info.filename for style in self._styles]
        for place in plan(homes, missing, shared.sd_model.sd_checkpoint_info.filename):
            if not _stopped():
                self._make(place)

    def _make(self, place: Cell) -> None:
        source, target = (self._styles[index] for index in place)
        state = shared.state
        state.skipped = False  # the host forgets a Skip too late for the inversion
        state.job = f"Ditail grid: cell {len(self._finished) + 1} of {len(self._keys)}"
        processed = processing.process_images(self._request(source, target))
        if state.interrupted or state.skipped or not processed.images:
            return  # what there may be is half a picture
        cell = FinishedCell(processed.images[0], processed.infotexts[0])
        self._store.put(self._keys[place], cell)
        self._finished[place] = cell

    def _request(self, source: Style, target: Style) -> Any:
        return cell_request(self._p, source, target, self._told)

    def _result(self) -> processing.Processed:
        p, finished = self._p, [self._finished[place] for place in self._keys if place in self._finished]
        complete = len(finished) == len(self._keys)
        if not complete:
            p.comment(f"{len(finished)} of {len(self._keys)} cells are made; generate again to make the rest.")
        self._store.trim(grid_bytes(), spare=() if complete else self._keys.values())
        if not finished:
            return processing.Processed(p, [], p.seed, "")
        sheet = draw_sheet(self._finished, [style.label for style in self._styles])
        told = bool(self._settings.inversion_prompt.strip())
        infotext = sheet_infotext(finished[0].infotext, self._checkpoints, self._loras, told=told)
        processed = show(p, sheet, infotext, finished)
        if complete:
            save_sheet(p, processed)
            self._store.forget_seeds(self._seeds)
        return processed

    def _all_keys(self) -> dict[Cell, str]:
        facts = grid_facts(self._p, self._own, self._settings)
        styles = list(enumerate(self._styles))
        return {(row, column): cell_key(facts, source, target) for row, source in styles for column, target in styles}

    def _fix_seeds(self) -> str:
        """Draw the seeds, or take those of the same grid where it was broken off; gives the name they are kept by."""
        p = self._p
        name = hashlib.sha256("".join(self._all_keys().values()).encode()).hexdigest()
        asked = [p.seed, p.subseed]
        p.seed, p.subseed = self._store.seeds(name) or asked
        processing.fix_seed(p)
        if [p.seed, p.subseed] != asked:
            self._store.keep_seeds(name, [p.seed, p.subseed])
        return name


def _ditail_request(panel: Sequence[object]) -> Request:
    request = parse_request(panel, {"enabled": True})
    if request is None:
        raise SettingsError("enabled", "The Ditail panel's settings cannot be read; reload the page.")
    return request


def _selected(p: Any) -> Any:
    """The checkpoint that this request would use without the grid."""
    return require_selected(p.override_settings.get(CHECKPOINT))


def _check_size(p: Any, styles: int) -> None:
    megapixels = round(styles**2 * p.width * p.height / 1_000_000)
    limit = shared.opts.img_max_size_mp
    if megapixels >= limit:
        raise SettingsError(
            "checkpoints",
            f"The sheet would have {megapixels} megapixels and the WebUI's limit is {limit:g}; choose fewer "
            "checkpoints, a smaller size or a higher limit in Settings.",
        )


def _one_picture_a_cell(p: Any) -> None:
    if p.batch_size > 1 or p.n_iter > 1:
        p.comment("Ditail grid makes one picture a cell; batch size and count were taken as 1.")
    p.batch_size = p.n_iter = 1


def _stopped() -> bool:
    return bool(shared.state.interrupted or shared.state.stopping_generation)


@contextmanager
def _checkpoint_restored() -> Iterator[None]:
    """Load the checkpoint, its VAE and the host's selection again, however this ends."""
    loaded, vae = shared.sd_model.sd_checkpoint_info, sd_vae.loaded_vae_file
    options = shared.opts.data
    selection: Mapping[str, Any] = {name: options[name] for name in _SELECTION if name in options}
    try:
        yield
    finally:
        for name in _SELECTION:
            options.pop(name, None)
        options.update(selection)
        load_target(loaded, vae)
