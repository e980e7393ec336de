"""The sampling runs that the source is to make, each told from others by all that it depends on."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modules import rng, sd_vae, shared
from modules.processing_scripts.comments import strip_comments

from ...settings import Settings
from ..cache.keys import key_of
from ..host import networks
from ..host.preparation import first_pass_size
from ..host.tags import strip_tags
from .at_work import Source

_SECTIONS = ("sd", "sdxl", "optimizations", "compatibility", "sampler-params")
"""Sections of the host's settings page with what may change a sampling run, ..."""

_NOT_OF_THE_RUN = ("sd_model_checkpoint", "sd_checkpoints_limit", "sd_checkpoints_keep_in_cpu", "sd_checkpoint_cache")
"""... and what in them does not: the target may be another, and the same run is found again."""

_ATTRIBUTES = (
    *("sampler_name", "scheduler", "steps", "cfg_scale", "eta", "s_churn", "s_tmin", "s_tmax", "s_noise"),
    *("s_min_uncond", "subseed_strength", "seed_resize_from_h", "seed_resize_from_w"),
    *("disable_extra_networks", "sampler_noise_scheduler_override"),
)

_ROWS_TOGETHER = ("DPM adaptive",)
"""Samplers that choose their steps by all rows of a batch."""


@dataclass(frozen=True)
class RunTask:
    """One image that the source is to generate.

    Attributes:
        text: the prompt as written.
        prompt: without tags of networks.
        negative: the negative prompt.
        tags: the networks, by kind.
        own_tags: they are the inversion prompt's, not the request's.
        seed: of the image.
        subseed: of the image; counts only where the request has a strength for it.
    """

    text: str
    prompt: str
    negative: str
    tags: Mapping[str, Sequence[Any]]
    own_tags: bool
    seed: int
    subseed: int

    @property
    def told(self) -> tuple[str, str, str]:
        """What the source is told; runs with the same may share a batch."""
        tags = sorted((kind, [tag.items for tag in found]) for kind, found in self.tags.items())
        return self.prompt, self.negative, repr(tags)


def run_tasks(p: Any, settings: Settings) -> list[RunTask]:
    """The run of each of a request's images. As in the host, a batch has the networks of its first prompt."""
    prompts = [_text(settings.inversion_prompt, main) for main in p.all_prompts]
    negatives = [_text(settings.inversion_negative_prompt, main) for main in p.all_negative_prompts]
    tasks = []
    for index, (text, negative) in enumerate(zip(prompts, negatives, strict=True)):
        _, tags = strip_tags(prompts[index - index % p.batch_size])
        own = bool(settings.inversion_prompt.strip())
        prompt, _ = strip_tags(text)
        tasks.append(RunTask(text, prompt, negative, tags, own, int(p.all_seeds[index]), int(p.all_subseeds[index])))
    return tasks


def _text(own: str, main: str) -> str:
    text = own if own.strip() else main
    return strip_comments(text) if getattr(shared.opts, "enable_prompt_comments", False) else text


def told_now(settings: Settings, prompt: str, negative: str) -> tuple[str, str]:
    """What the source would be told of an image with these main prompts: both without tags of networks."""
    stripped, _ = strip_tags(_text(settings.inversion_prompt, prompt))
    return stripped, _text(settings.inversion_negative_prompt, negative)


def batches(p: Any, tasks: Mapping[str, RunTask]) -> list[dict[str, RunTask]]:
    """Runs, by key, that are made together without one changing another; no more than the request's batch size."""
    alone = p.sampler_name in _ROWS_TOGETHER or getattr(shared.opts, "no_dpmpp_sde_batch_determinism", False)
    size = 1 if alone else p.batch_size
    made: list[dict[str, RunTask]] = []
    for key, task in tasks.items():
        fitting = (batch for batch in made if len(batch) < size and next(iter(batch.values())).told == task.told)
        batch = next(fitting, None)
        if batch is None:
            made.append({key: task})
        else:
            batch[key] = task
    return made


def host_request(p: Any, tasks: Sequence[RunTask], model: Any) -> Any:
    """A request of the host's for a batch of runs: a copy without scripts, hires fix and refiner."""
    run = copy.copy(p)
    for name in [name for name in vars(run) if callable(getattr(type(run), name, None))]:
        del run.__dict__[name]  # methods that somebody wrapped on the instance
    run.scripts_value, run.restore_faces = None, False
    run.extra_generation_params, run.comments = {}, {}
    run.cached_c, run.cached_uc = [None, None], [None, None]
    run.width, run.height = first_pass_size(p)
    run.enable_hr, run.refiner_checkpoint_info = False, None
    run.batch_size, run.n_iter, run.iteration = len(tasks), 1, 0
    run.all_prompts, run.prompts = [task.text for task in tasks], [task.prompt for task in tasks]
    run.all_negative_prompts = run.negative_prompts = [task.negative for task in tasks]
    run.main_prompt, run.main_negative_prompt = run.all_prompts[0], run.all_negative_prompts[0]
    run.all_seeds = run.seeds = [task.seed for task in tasks]
    run.all_subseeds = run.subseeds = [task.subseed for task in tasks]
    run.extra_network_data = {kind: list(tags) for kind, tags in tasks[0].tags.items()}
    run.sd_model_name, run.sd_model_hash = model.sd_checkpoint_info.name_for_extra, model.sd_model_hash
    run.sd_vae_name, run.sd_vae_hash = sd_vae.get_loaded_vae_name(), sd_vae.get_loaded_vae_hash()
    run.rng = rng.ImageRNG(
        (getattr(model, "latent_channels", 4), run.height // 8, run.width // 8),
        run.seeds,
        subseeds=run.subseeds,
        subseed_strength=run.subseed_strength,
        seed_resize_from_h=run.seed_resize_from_h,
        seed_resize_from_w=run.seed_resize_from_w,
    )
    return run


def run_key(p: Any, task: RunTask, source: Source) -> str:
    """What identifies everything that a run depends on; the target and the VAEs are no part of it."""
    return key_of(
        "trace",
        source=source.identity(),
        prompts=task.told,
        networks=networks.files_of(task.tags),
        noise=[task.seed, task.subseed if p.subseed_strength else None, *first_pass_size(p)],
        request=[repr(getattr(p, name, None)) for name in _ATTRIBUTES],
        options={name: repr(getattr(shared.opts, name, None)) for name in _options()},
        tiling=bool(p.tiling),
    )


def _options() -> list[str]:
    labels = shared.opts.data_labels
    listed = [name for name, option in labels.items() if option.section and option.section[0] in _SECTIONS]
    return sorted({*listed} - {*_NOT_OF_THE_RUN})
