"""The last generations, by which a finished picture can be made once more without injection."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from modules import shared
from PIL import Image

from ...settings import AGGREGATION_ALONE, CONTENT_GENERATED
from ..request.arguments import Request

_REQUEST = "ditail_untouched"
"""Attribute of the host's request: a copy of it, as it was before anybody prepared it."""

_HEAVY = ("init_latent", "image_conditioning", "sampler", "c", "uc", "mask", "nmask", "overlay_images")
"""What an earlier run of the same request has left on it; the next one makes all of it anew."""


@dataclass(frozen=True)
class Run:
    """One finished picture, and what made it.

    Attributes:
        request: the host's, untouched, for one picture, with this one's prompts and seeds.
        result: the finished picture.
        picture: what the content was taken from; ``None`` where the source generated it.
        infotext: of the finished picture.
        panels: captioned pictures to compare, once they have been made.
    """

    request: Any
    result: Image.Image
    picture: Image.Image | None
    infotext: str
    panels: tuple[tuple[str, Image.Image], ...] = ()


class Runs:
    """The last runs by their pictures' infotexts: who has a picture has its infotext; nobody else finds the run."""

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, run: Run) -> None:
        """Remember a run; the oldest one goes."""
        with self._lock:
            self._runs[run.infotext] = run
            self._runs.move_to_end(run.infotext)
            while len(self._runs) > self._limit:
                self._runs.popitem(last=False)

    def get(self, infotext: str) -> Run | None:
        """The run of an infotext."""
        with self._lock:
            return self._runs.get(infotext)


last = Runs()


def keep_request(p: Any) -> None:
    """Remember what a request is before anybody prepares it; to be called from ``before_process``."""
    kept = copy.copy(p)
    for name in (_REQUEST, *_HEAVY):
        kept.__dict__.pop(name, None)  # a field's default, or nothing, is what a new request has
    kept.extra_generation_params, kept.override_settings = dict(p.extra_generation_params), dict(p.override_settings)
    setattr(p, _REQUEST, kept)


def remember(p: Any, processed: Any, asked: Request | None) -> None:
    """Remember the pictures of a request that has ended, unless it came through the API, where nobody asks for more.

    Args:
        p: the host's request.
        processed: its result, before anything was appended.
        asked: what it asked of Ditail.
    """
    kept = p.__dict__.pop(_REQUEST, None)
    if kept is None or asked is None or asked.settings.aggregation == AGGREGATION_ALONE:
        return  # without a source there is no content
    if p.is_api or shared.state.interrupted or shared.state.skipped:
        return
    content = None if asked.settings.content == CONTENT_GENERATED else asked.picture
    first = processed.index_of_first_image
    for index, result in enumerate(processed.images[first : first + len(processed.all_seeds)]):
        pictures = getattr(kept, "init_images", None) or [content]
        request = _one_of(kept, processed, index)
        last.put(Run(request, result, pictures[index % len(pictures)], processed.infotexts[first + index]))


def _one_of(kept: Any, processed: Any, index: int) -> Any:
    """A request for one of the pictures alone, by the checkpoint that made it."""
    one = copy.copy(kept)
    one.prompt, one.negative_prompt = processed.all_prompts[index], processed.all_negative_prompts[index]
    one.styles = []
    one.seed, one.subseed = processed.all_seeds[index], processed.all_subseeds[index]
    one.n_iter = one.batch_size = 1
    one.do_not_save_samples = one.do_not_save_grid = True
    one.override_settings = {**kept.override_settings, "sd_model_checkpoint": shared.sd_model.sd_checkpoint_info.name}
    if getattr(one, "init_images", None):
        one.init_images = [one.init_images[index % len(one.init_images)]]
    return one


def again(run: Run) -> Any:
    """A run's request, to be run: what is changed on it stays out of the kept one."""
    request = copy.copy(run.request)
    request.comments = {}
    for name in ("extra_generation_params", "override_settings"):
        setattr(request, name, dict(getattr(run.request, name)))
    return request
