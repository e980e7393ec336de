"""The source's part where there is no content picture: its own sampling run is the source trajectory.

The run is what the host would do for the same request with the source checkpoint loaded: prompt, networks, seed,
sampler and options are the request's. Other extensions' scripts have no part in it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from modules import devices, processing, sd_samplers, shared
from PIL import Image
from torch import Tensor

from ...core import Trace
from ...errors import InjectionError
from ...settings import Settings
from ..cache.keys import KEY
from ..cache.memory import trajectories
from ..host import kinds, networks
from ..host.beside.loaded import notes_restored
from ..host.model import precision
from ..host.progress import InversionStopped, SourceProgress, stop_asked
from ..options import cache_bytes
from ..shown import ContentPicture
from ..timing import Part, TimeSplit
from .at_work import Source, at_work, require_numbers, vae_facts, vae_of
from .run_request import RunTask, batches, host_request, run_key, run_tasks, told_now
from .tracer import RunTracer

logger = logging.getLogger("ditail")

INFOTEXT = "infotext"
DECODED_BY = "decoded by"
"""Of a run's metadata: the parameters of its picture, and the VAE that decoded it."""


class ContentGenerator:
    """Lets the source generate a request's content, or finds it in the cache."""

    def __init__(self, p: Any, source: Source, times: TimeSplit, *, decode: bool) -> None:
        """
        Args:
            p: the host's request.
            source: who generates; its VAE counts only for decoding.
            times: takes the seconds of loads and runs.
            decode: whether the content pictures are wanted, too.
        """
        self._p = p
        self._source = source
        self._times = times
        self._decode = decode
        file = source.vae or vae_of(source.info)
        self._decoder = repr([vae_facts(file, "decoder"), getattr(shared.opts, "sd_vae_decode_method", None)])

    def traces(self, tasks: Sequence[RunTask]) -> list[Trace]:
        """The trace of each task's run, on the CPU; the source is loaded only if one, or its picture, is missing.

        Raises:
            InversionStopped: Interrupt or Skip was pressed.
            DitailError: the source cannot be loaded, or computes no numbers.
        """
        keys = [run_key(self._p, task, self._source) for task in tasks]
        found = {key: run for key in keys if isinstance(run := trajectories.get(key), Trace)}
        missing = {key: task for key, task in zip(keys, tasks, strict=True) if key not in found}
        undecoded = {key: run for key, run in found.items() if self._decode and not self._is_decoded(run)}
        if missing or undecoded:
            logger.info("Generating %d content picture(s) with %s", len(missing), self._source.info.name)
            found.update(self._with_source(missing, undecoded))
        return [found[key] for key in keys]

    def pictures(self, tasks: Sequence[RunTask], runs: Sequence[Trace]) -> list[ContentPicture]:
        """The decoded content pictures, one a task; none if they are not wanted."""
        return [
            ContentPicture(Image.fromarray(run.picture[0].numpy()), run.metadata[INFOTEXT], task.seed, task.prompt)
            for task, run in zip(tasks, runs, strict=True)
            if self._decode and run.picture is not None
        ]

    def _with_source(self, missing: Mapping[str, RunTask], undecoded: Mapping[str, Trace]) -> dict[str, Trace]:
        together = batches(self._p, missing)
        progress = SourceProgress("generating the content", self._p.steps, self._p.n_iter, max(len(together), 1))
        done: dict[str, Trace] = {}
        vae = self._source.vae if self._decode else None
        with notes_restored(), at_work(self._source, vae, progress, self._times, needs_vae=self._decode) as model:
            for index, batch in enumerate(together):
                if index:
                    progress.next()
                with self._times.part(Part.GENERATE):
                    done.update(self._run(model, batch))
            for key, run in {**undecoded, **done}.items():
                if self._decode:
                    self._add_picture(model, run)
                done[key] = run
                trajectories.put(key, run, cache_bytes())
            progress.check()  # decoding is not interrupted, and the host forgets a Skip when its own loop begins
        return done

    def _run(self, model: Any, batch: Mapping[str, RunTask]) -> dict[str, Trace]:
        """One batch of runs; the loaded source's networks are active only in here."""
        run = host_request(self._p, list(batch.values()), model)
        with _networks_of(run, next(iter(batch.values()))):
            run.setup_conds()
            run.extra_generation_params.update(kinds.of(model).notes(model).extra_generation_params)
            with kinds.of(model).schedule_of(run, model):
                sampler = sd_samplers.create_sampler(run.sampler_name, model)
                noise = run.rng.next()
                with precision(), RunTracer(sampler, model, noise.shape[1]) as tracer:
                    image_cond = run.txt2img_image_conditioning(noise)
                    clean = sampler.sample(run, noise, run.c, run.uc, image_conditioning=image_cond).cpu()
        if stop_asked():
            raise InversionStopped
        latents = tracer.latents
        require_numbers(self._source, clean, latents)
        texts = [_infotext(run, index) for index in range(len(batch))]
        return {
            key: Trace(
                tracer.levels,
                latents[:, row : row + 1].clone(),
                clean[row : row + 1].clone(),
                metadata={KEY: key, INFOTEXT: texts[row]},
            )
            for row, key in enumerate(batch)
        }

    def _add_picture(self, model: Any, run: Trace) -> None:
        run.picture = decoded(model, run.clean)
        run.metadata[DECODED_BY] = self._decoder

    def _is_decoded(self, run: Trace) -> bool:
        return run.picture is not None and run.metadata.get(DECODED_BY) == self._decoder


def _networks_of(run: Any, task: RunTask) -> AbstractContextManager[None]:
    return networks.active(task.tags) if task.own_tags else networks.active_as_in(run, task.tags)


def _infotext(run: Any, index: int) -> str:
    """Parameters with which the source makes the same picture in plain txt2img."""
    text: str = processing.create_infotext(run, run.all_prompts, run.all_seeds, run.all_subseeds, index=index)
    return text


def decoded(model: Any, clean: Tensor) -> Tensor:
    """Latents (B, C, H, W) as pictures (B, H, W, 3) of bytes, in the host's way."""
    rows = clean.to(devices.device)
    decoded = processing.decode_latent_batch(model, rows, target_device=devices.cpu, check_for_nans=True)
    pixels = torch.clamp((torch.stack(decoded).float() + 1.0) / 2.0, min=0.0, max=1.0)
    return (255.0 * pixels).movedim(1, -1).to(torch.uint8).contiguous()


class GeneratedSources:
    """The trace of each of a request's images, and the pictures that the source made of them."""

    def __init__(self, p: Any, generator: ContentGenerator, settings: Settings) -> None:
        """Let the source generate what is not in the cache, with one load of it at most."""
        self._tasks = run_tasks(p, settings)
        self._settings = settings
        self._traces = generator.traces(self._tasks)
        self.contents = generator.pictures(self._tasks, self._traces)

    def for_images(self, first: int, prompts: Sequence[str], negatives: Sequence[str]) -> list[Trace]:
        """The traces of some of the request's images.

        Raises:
            InjectionError: another extension changed a prompt after the source was told it.
        """
        tasks = self._tasks[first : first + len(prompts)]
        told = [(task.prompt, task.negative) for task in tasks]
        if told != [told_now(self._settings, *pair) for pair in zip(prompts, negatives, strict=True)]:
            raise InjectionError(
                "Another extension changes the prompt after the source has generated the content with it; switch it "
                "off, or give Ditail an inversion prompt of its own."
            )
        return list(self._traces[first : first + len(prompts)])
