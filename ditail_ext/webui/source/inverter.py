"""The source's part: every trajectory that a request needs, from the cache or inverted with one swap."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from modules import shared
from torch import Tensor

from ...core import InversionRule, Level, NoiseSchedule, SourceTrajectory, invert
from ...settings import Settings
from ..cache import disk
from ..cache.keys import KEY, key_of
from ..cache.memory import trajectories
from ..host import networks
from ..host.model import encode_picture, noise_predictor, precision, ready, schedule_of
from ..host.preparation import PreparedPicture
from ..host.progress import InversionProgress
from ..host.samplers import SamplerPlan
from ..options import cache_bytes, disk_bytes
from ..timing import Part, TimeSplit
from .at_work import Source, at_work, require_numbers, vae_facts, vae_of
from .prompts import InversionPrompts, inversion_condition, inversion_prompts

logger = logging.getLogger("ditail")


@dataclass(frozen=True)
class InversionTask:
    """One source picture, and what the source is told about it."""

    picture: PreparedPicture
    prompts: InversionPrompts


class Inverter:
    """Inverts a request's pictures along its sampler's levels."""

    def __init__(self, p: Any, settings: Settings, source: Source, plan: SamplerPlan, times: TimeSplit) -> None:
        self._settings = settings
        self._source = source
        self._plan = plan
        self._times = times
        self._size = {"width": p.width, "height": p.height, "steps": p.steps}
        self._tiling = bool(p.tiling)
        self._jobs = p.n_iter

    def trajectories(self, tasks: Sequence[InversionTask]) -> list[SourceTrajectory]:
        """The trajectory of each task, on the CPU. The source is at work only if one of them is not in the cache.

        Raises:
            InversionStopped: Interrupt or Skip was pressed.
            DitailError: the source cannot be loaded or cannot encode the picture.
        """
        keys = [self._key(task) for task in tasks]
        found = {key: _cached(key) for key in keys}
        missing = {key: task for key, task in zip(keys, tasks, strict=True) if found[key] is None}
        if missing:
            logger.info("Inverting %d picture(s) along %d levels", len(missing), self._plan.steps)
            found.update(self._invert_all(missing))
        return [trajectory for trajectory in (found[key] for key in keys) if trajectory is not None]

    def _invert_all(self, missing: Mapping[str, InversionTask]) -> dict[str, SourceTrajectory]:
        progress = InversionProgress(len(missing) * self._plan.steps, self._jobs)
        limit = cache_bytes()
        target = schedule_of(shared.sd_model)
        done: dict[str, SourceTrajectory] = {}
        with at_work(self._source, self._source.vae, progress, self._times) as model:
            for key, task in missing.items():
                progress.check()
                done[key] = self._invert(model, task, target, progress)
                done[key].metadata[KEY] = key
                trajectories.put(key, done[key], limit)
                disk.trajectory_folder().put(key, done[key], disk_bytes())
        return done

    def _invert(
        self, model: Any, task: InversionTask, target: NoiseSchedule, progress: InversionProgress
    ) -> SourceTrajectory:
        with networks.active(task.prompts.tags):
            with self._times.part(Part.ENCODE):
                cond = inversion_condition(model, task.prompts, self._settings, **self._size)
                latent = _encode(model, task.picture)
            with self._times.part(Part.INVERT), precision(), ready(model, latent):
                inverted = invert(
                    noise_predictor(model),
                    latent,
                    _for_source(self._plan.levels[::-1], target, schedule_of(model)),
                    cond,
                    clean=self._plan.clean,
                    rule=InversionRule(self._settings.inversion_rule),
                    refinements=self._settings.refinements,
                    on_step=progress,
                )
        require_numbers(self._source, inverted.latents)
        return SourceTrajectory((self._plan.clean, *self._plan.levels[::-1]), inverted.latents.cpu())

    def _key(self, task: InversionTask) -> str:
        settings, plan = self._settings, self._plan
        return key_of(
            "trajectory",
            picture=task.picture.fingerprint(),
            source=self._source.identity(),
            vae=vae_facts(self._source.vae or vae_of(self._source.info), "encoder"),
            prompts=[*task.prompts.told, *self._size.values()],
            networks=networks.files_of(task.prompts.tags),
            scales=[settings.positive_scale, settings.negative_scale],
            rule=[settings.inversion_rule, settings.refinements],
            levels=[[level.timestep, level.alpha_bar] for level in (plan.clean, *plan.levels)],
            tiling=self._tiling,
        )


def _cached(key: str) -> SourceTrajectory | None:
    """A trajectory from memory, or from disk, whence it goes to memory."""
    found = trajectories.get(key)
    if isinstance(found, SourceTrajectory):
        return found
    on_disk = disk.trajectory_folder().get(key) if disk_bytes() > 0 else None
    if on_disk is not None:
        trajectories.put(key, on_disk, cache_bytes())
    return on_disk


def _encode(model: Any, picture: PreparedPicture) -> Tensor:
    latent = encode_picture(model, picture.pixels)
    if picture.latent_size is not None:
        latent = torch.nn.functional.interpolate(latent, size=picture.latent_size, mode="bilinear")
    return latent


def _for_source(levels: Sequence[Level], target: NoiseSchedule, source: NoiseSchedule) -> list[Level]:
    """The target's levels with the timesteps by which the source knows them; they differ only if schedules do."""
    if torch.allclose(target.alpha_bar, source.alpha_bar, rtol=1e-6, atol=0.0):
        return list(levels)
    return [Level(source.at_sigma(level.sigma).timestep, level.alpha_bar) for level in levels]


class InvertedSources:
    """The trajectory of each of a request's images."""

    def __init__(self, p: Any, inverter: Inverter, settings: Settings, pictures: Sequence[PreparedPicture]) -> None:
        """Invert what the request's images need, with one load of the source at most.

        Args:
            p: the host's request, its prompts final.
            inverter: for the request's sampler.
            settings: checked.
            pictures: one for all images, or one for each image of a batch.
        """
        self._inverter = inverter
        self._settings = settings
        self._pictures = pictures
        self._batch = min(p.batch_size, len(pictures))
        # The request holds what it needs: the cache may have no room for it all, and its keys may change on the way
        # (the host lowers its VAE's precision for good once it has computed no numbers).
        self._done: dict[tuple[object, ...], SourceTrajectory] = {}
        self.for_images(0, p.all_prompts, p.all_negative_prompts)

    def for_images(self, first: int, prompts: Sequence[str], negatives: Sequence[str]) -> list[SourceTrajectory]:
        """The trajectories of some of the request's images.

        What was inverted before comes from the cache. Where another extension changed a prompt since (in
        ``process_batch``), and the inversion has none of its own, the picture is inverted again.

        Args:
            first: index of the first image.
            prompts: the main prompts, one an image.
            negatives: the negative ones.
        """
        tasks = []
        for index, (prompt, negative) in enumerate(zip(prompts, negatives, strict=True), start=first):
            picture = self._pictures[index % self._batch] if len(self._pictures) > 1 else self._pictures[0]
            tasks.append(InversionTask(picture, inversion_prompts(self._settings, prompt, negative)))
        keys = [(id(task.picture), *task.prompts.told) for task in tasks]
        missing = {key: task for key, task in zip(keys, tasks, strict=True) if key not in self._done}
        self._done.update(zip(missing, self._inverter.trajectories(list(missing.values())), strict=True))
        return [self._done[key] for key in keys]
