"""Which of the installed checkpoints knows a picture best, and so is the source for it."""

from __future__ import annotations

import html
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modules import shared
from torch import Tensor

from ...core import Ranking, Sureness, levels_of, noise_errors, noise_like, rank
from ...errors import CheckpointError, DitailError
from ..cache.keys import key_of
from ..host.checkpoints import check_file, check_pair
from ..host.installed import installed
from ..host.model import encode_picture, noise_predictor, precision, ready, schedule_of
from ..host.progress import InversionStopped, SourceProgress
from ..source.at_work import Source, at_work, require_numbers
from ..source.prompts import condition_of
from ..timing import of_this_device
from .question import Question
from .sentence import name

logger = logging.getLogger("ditail")

SHOWN = 5
"""So many of the ranked checkpoints are shown."""

_KEPT = 4096
_errors: OrderedDict[str, tuple[float, ...]] = OrderedDict()
"""Errors that were computed before, by all that they depend on, the file of the checkpoint above all."""


@dataclass(frozen=True)
class Suggestion:
    """The answer.

    Attributes:
        ranking: of the checkpoints that were tried; ``None`` if none could be.
        tried: how many that were.
        of: how many there are of the target's family.
        failed: checkpoints that could not be tried.
    """

    ranking: Ranking | None
    tried: int
    of: int
    failed: Sequence[str] = ()

    @property
    def best(self) -> str | None:
        """The checkpoint to choose, of several alike one that is not the target; ``None`` where all are alike."""
        if self.ranking is None or self.ranking.sureness is Sureness.UNDECIDED:
            return None
        target = shared.sd_model.sd_checkpoint_info.name
        return next((one for one in self.ranking.best if one != target), self.ranking.best[0])


class _Progress(SourceProgress):
    """One job for each checkpoint; the context of the source at work begins and ends each."""

    def __init__(self, candidates: int) -> None:
        super().__init__("", 1, 0, candidates)
        self._candidates = candidates
        self._at = 0
        shared.state.job_count = candidates

    def begin(self) -> None:
        """The next checkpoint's turn."""
        self._at += 1
        self._doing = f"suggesting a source ({min(self._at, self._candidates)} of {self._candidates})"
        self._show()
        self.check()


def suggest(question: Question) -> Suggestion:
    """Rank the installed checkpoints of the target's family; to be called with the host's queue held.

    Interrupt ends it with those that were tried by then.
    """
    candidates = candidates_now()
    errors: dict[str, tuple[float, ...]] = {}
    failed = []
    try:
        latent = _encoded(question)
        progress = _Progress(len(candidates))
        for info in candidates:
            try:
                errors[info.name] = _errors_of(info, question, latent, progress)
            except CheckpointError as error:
                logger.info("Not tried as a source: %s", error)
                failed.append(info.name)
    except InversionStopped:
        logger.info("Suggesting a source was stopped after %d of %d checkpoints", len(errors), len(candidates))
    return Suggestion(rank(errors) if errors else None, len(errors), len(candidates), failed)


def candidates_now() -> list[Any]:
    """The installed checkpoints that can be sources for the target, the target among them."""
    found = {}
    for info in installed():
        try:
            check_pair(check_file(info), info, shared.sd_model, None, needs_vae=False)
        except DitailError:
            continue
        found[info.filename] = info
    target = shared.sd_model.sd_checkpoint_info
    return sorted(found.values(), key=lambda info: (info.filename != target.filename, info.name.casefold()))


def _encoded(question: Question) -> Tensor:
    """The picture through the target's VAE: one latent for all, so that no VAE tells the models apart."""
    target = Source(shared.sd_model.sd_checkpoint_info, None)
    with at_work(target, None, _Progress(1), of_this_device()) as model:
        return encode_picture(model, question.picture.pixels).cpu()


def _errors_of(info: Any, question: Question, latent: Tensor, progress: _Progress) -> tuple[float, ...]:
    source = Source(info, None)
    key = _key(source, question)
    if key in _errors:
        progress.begin()
        progress.end()
        _errors.move_to_end(key)
        return _errors[key]
    width, height = question.size
    with at_work(source, None, progress, of_this_device()) as model:
        cond = condition_of(model, question.prompts.positive, width=width, height=height)
        with precision(), ready(model, latent):
            levels = levels_of(schedule_of(model))
            found = noise_errors(noise_predictor(model), latent, noise_like(latent), levels, cond)
        require_numbers(source, latent.new_tensor(found))
    _errors[key] = found
    while len(_errors) > _KEPT:
        _errors.popitem(last=False)
    return found


def _key(source: Source, question: Question) -> str:
    return key_of(
        "suggestion",
        picture=question.picture.fingerprint(),
        source=source.identity(),
        vae=Source(shared.sd_model.sd_checkpoint_info, None).identity(),
        prompts=[question.prompts.positive, *question.size],
    )


def in_words(suggestion: Suggestion) -> str:
    """What the panel says of it: HTML."""
    ranking = suggestion.ranking
    if ranking is None:
        return "<p>No checkpoint could be tried; the log says why.</p>"
    rows = "".join(f"<li>{name(model.name)} {_how_far(model.excess)}</li>" for model in ranking.models[:SHOWN])
    some = "" if suggestion.tried == suggestion.of else f" {suggestion.tried} of {suggestion.of} were tried."
    bad = "" if not suggestion.failed else f" Not readable: {html.escape(', '.join(suggestion.failed))}."
    return f"<p>{_answer(suggestion, ranking)}{some}{bad}</p><ol>{rows}</ol>"


def _how_far(excess: float) -> str:
    if excess >= 1:
        return f"errs {1 + excess:.1f} times as much"
    return f"errs {excess:.0%} more" if excess > 0 else "errs least"


def _answer(suggestion: Suggestion, ranking: Ranking) -> str:
    if suggestion.best is None:
        alone = len(ranking.models) == 1
        return "There is no other checkpoint to compare with." if alone else _NO_TELLING
    chosen = f"{name(suggestion.best)} is chosen as the source."
    if ranking.sureness is Sureness.SHARED:
        return f"{', '.join(name(one) for one in ranking.best)} know this picture about equally well; {chosen}"
    how = "surely" if ranking.sureness is Sureness.SURE else "probably"
    return f"{name(ranking.models[0].name)} {how} knows this picture best; {chosen}"


_NO_TELLING = "All checkpoints know this picture about equally well: any of them may do as the source."
