"""The source's part: every trajectory that a request needs, from the cache or inverted with one swap."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from modules import devices, sd_hijack, sd_vae, shared
from torch import Tensor

from ..core import InversionRule, Level, NoiseSchedule, SourceTrajectory, invert
from ..settings import Settings
from . import disk, networks
from .cache import features, trajectories
from .conditions import InversionPrompts, inversion_condition
from .levels import SamplerPlan
from .model import encode_picture, noise_predictor, original_forward, precision, schedule_of, unet_of
from .options import cache_bytes, disk_bytes
from .picture import PreparedPicture
from .progress import InversionProgress
from .swap import source_loaded
from .timing import Part, TimeSplit

logger = logging.getLogger("ditail")


KEY = "key"
"""Of a trajectory's metadata: what identifies everything that it depends on."""

CONDITIONING_OPTIONS = (
    *("CLIP_stop_at_last_layers", "emphasis", "use_old_emphasis_implementation", "comma_padding_backtrack"),
    *("enable_emphasis", "sdxl_crop_left", "sdxl_crop_top", "fp8_storage", "cache_fp16_weight", "upcast_attn"),
    *("sd_noise_schedule", "use_downcasted_alpha_bar", "use_old_scheduling", "sd_lora", "lora_functional"),
    *("cross_attention_optimization", "tiling"),
)


@dataclass(frozen=True)
class Source:
    """Who inverts: a checkpoint of the host, and the file of a VAE, or ``None`` for the one resolved for it."""

    info: Any
    vae: str | None


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
        """The trajectory of each task, on the CPU. The source is loaded only if one of them is not in the cache.

        Raises:
            InversionStopped: Interrupt or Skip was pressed; the target is loaded again.
            DitailError: the source cannot be loaded or cannot encode the picture.
        """
        keys = [self._key(task) for task in tasks]
        found = {key: _kept(key) for key in keys}
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
        if devices.device.type == "cuda":
            features.clear()  # the swap and the inversion need the room more
        progress.begin()
        try:
            with ExitStack() as stack:
                stack.enter_context(same_random_numbers())
                stack.enter_context(torch.no_grad())
                stack.enter_context(networks.none_active())
                model = stack.enter_context(source_loaded(self._source.info, self._source.vae, self._times))
                stack.enter_context(original_forward(unet_of(model)))
                for key, task in missing.items():
                    progress.check()
                    done[key] = self._invert(model, task, target, progress)
                    done[key].metadata[KEY] = key
                    trajectories.put(key, done[key], limit)
                    disk.kept_folder().put(key, done[key], disk_bytes())
        finally:
            progress.end()
        return done

    def _invert(
        self, model: Any, task: InversionTask, target: NoiseSchedule, progress: InversionProgress
    ) -> SourceTrajectory:
        with networks.active(task.prompts.tags):
            with self._times.part(Part.ENCODE):
                cond = inversion_condition(model, task.prompts, self._settings, **self._size)
                latent = _encode(model, task.picture)
            with self._times.part(Part.INVERT), precision():
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
        return SourceTrajectory((self._plan.clean, *self._plan.levels[::-1]), inverted.latents.cpu())

    def _key(self, task: InversionTask) -> str:
        settings, plan = self._settings, self._plan
        depends_on = {
            "picture": task.picture.fingerprint(),
            "source": file_identity(self._source.info.filename),
            "vae": file_identity(self._source.vae or vae_of(self._source.info)),
            "prompts": [task.prompts.positive, task.prompts.negative, task.prompts.tag_text, *self._size.values()],
            "networks": networks.files_of(task.prompts.tags),
            "scales": [settings.positive_scale, settings.negative_scale],
            "rule": [settings.inversion_rule, settings.refinements],
            "levels": [[level.timestep, level.alpha_bar] for level in (plan.clean, *plan.levels)],
            "options": [repr(getattr(shared.opts, name, None)) for name in CONDITIONING_OPTIONS],
            "embeddings": embeddings_now(),
            "precision": [str(devices.dtype_unet), str(devices.dtype_vae), str(devices.device), self._tiling],
        }
        return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()


def _kept(key: str) -> SourceTrajectory | None:
    """A trajectory from memory, or from disk, whence it goes to memory."""
    found = trajectories.get(key)
    if isinstance(found, SourceTrajectory):
        return found
    on_disk = disk.kept_folder().get(key) if disk_bytes() > 0 else None
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


def same_random_numbers() -> Any:
    """A context that leaves the random numbers of the generation alone: loading a model draws some."""
    gpus = [devices.device] if devices.device.type == "cuda" else []
    return torch.random.fork_rng(devices=gpus)


def file_identity(path: str | None) -> list[Any] | None:
    """Path, size and time of change: what tells a file from another of its name."""
    if path is None:
        return None
    stat = Path(path).stat()
    return [str(Path(path).resolve()), stat.st_size, stat.st_mtime_ns]


def vae_of(info: Any) -> str | None:
    """The file of the VAE that the host resolves for a checkpoint; ``None`` for the checkpoint's own."""
    if shared.sd_model.sd_checkpoint_info.filename == info.filename:
        file: str | None = sd_vae.loaded_vae_file
    else:
        file = sd_vae.resolve_vae(info.filename).vae
    return file if file is not None and Path(file).is_file() else None


def embeddings_now() -> list[list[str]]:
    """Textual inversions by name and content: a prompt may use any of them."""
    known = sd_hijack.model_hijack.embedding_db.word_embeddings
    return sorted([name, str(getattr(embedding, "shorthash", ""))] for name, embedding in known.items())
