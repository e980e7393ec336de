"""Places where something may break while a request is made: callbacks, hooks, loads, moves, whatever is kept.

As ``ditail_probe.breaking`` names them, under the module from which they are called.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from harness.client import circle, encode

OURS = "ditail_ext.webui."
CORE = "ditail_ext.core."

BETA = {"source_checkpoint": "beta.safetensors"}
SMALL: dict[str, Any] = {"width": 128, "height": 64, "steps": 4}


@dataclass(frozen=True)
class Asked:
    """A request, with the host's options for it."""

    tab: str
    ditail: dict[str, Any]
    request: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def varied(self, number: int) -> Asked:
        """Another request of the same kind, of which nothing is kept yet; the models are."""
        ditail, request = self.ditail, self.request
        if number:
            ditail, request = {**ditail, "positive_scale": 3 + number / 1000}, {**request, "seed": number}
        return replace(self, ditail=ditail, request=request)


REQUESTS = {
    "img2img": Asked("img2img", BETA),
    "generated": Asked("txt2img", {**BETA, "show_content": True}),
    "content": Asked("txt2img", {**BETA, "picture": encode(circle(64))}),
    "mixed": Asked("img2img", {**BETA, "mix_checkpoint": "delta.safetensors", "mix_weight": 0.5}),
    "networks": Asked("img2img", {**BETA, "inversion_prompt": "a <lora:tiny:1>"}, {"prompt": "a <lora:tiny:0.5>"}),
    "region": Asked("img2img", {**BETA, "mask": encode(circle().convert("L"))}),
    "aggregated": Asked("img2img", {**BETA, "aggregate_1": "delta.safetensors", "aggregation_ratio": 0.5}),
    "disk": Asked("img2img", BETA, options={"ditail_disk_cache_mb": 64}),
    "ahead": Asked(
        "img2img",
        {**BETA, "feature_ratio": 1.0, "attention_ratio": 1.0},
        {"steps": 6},
        options={"ditail_record_rows": 4, "ditail_features_mb": 64},
    ),
}
"""By name, requests that between them come to every place."""

NEEDED: dict[str, tuple[str, ...]] = {
    "img2img": (
        # the script's callbacks, and what a request is wrapped in
        *("script:parse_request", "script:before_init", f"{OURS}flow:begin", f"{OURS}notes:without_ours"),
        *(f"{OURS}target.sampling:TargetSampling.{name}" for name in ("install", "attach", "_run")),
        # the order of events
        *(f"{OURS}flow:{name}" for name in ("refuse_unsupported", "find_source", "check_file", "check_pair")),
        *(f"{OURS}flow:{name}" for name in ("find_further", "prepare_img2img", "plan_sampler", "region_of")),
        *(f"{OURS}notes:{name}" for name in ("parameters_of", "say_of_the_start", "say_what_has_no_effect")),
        # loads and moves
        *(f"{OURS}source.at_work:{name}" for name in ("take", "another_vae")),
        *(f"{OURS}source.models:{name}" for name in ("load_beside", "check_loaded")),
        *(f"{OURS}host.beside.second_model:SecondModel.{name}" for name in ("__init__", "at_work", "_move_to_device")),
        *("modules.sd_models:load_model", "modules.sd_models:load_model_weights", "modules.sd_models:read_state_dict"),
        *("modules.sd_models:send_model_to_device", "modules.sd_models:apply_alpha_schedule_override"),
        # the inversion
        *(f"{OURS}source.inverter:Inverter.{name}" for name in ("trajectories", "_key", "_invert")),
        *(f"{OURS}source.inverter:{name}" for name in ("at_work", "inversion_condition", "encode_picture", "invert")),
        f"{OURS}source.inverter:require_numbers",
        *(f"{OURS}host.progress:{name}" for name in ("SourceProgress.begin", "InversionProgress.__call__")),
        # the target's sampling: recordings and the hooks' work
        *(f"{OURS}target.injected:{name}" for name in ("encode_prompt", "latents_of", "unet_of")),
        *(f"{OURS}target.features:{name}" for name in ("slots_for", "rows_ahead", "shortcut_for")),
        f"{OURS}target.batch:InjectedBatch.attach",
        f"{OURS}host.samplers:LevelReader.__call__",
        *(f"{CORE}injection.injection:Injection.{name}" for name in ("__enter__", "record", "replay")),
        f"{CORE}injection.injection:_Recording.handle",
        *(f"{CORE}injection.replay:Replay.{name}" for name in ("handle", "stand_in", "require_used")),
        f"{CORE}injection.bank:FeatureBank.store",
        f"{CORE}recordings.recorder:SourceRecorder._record",
        # the host's own, before and after
        *("modules.processing:decode_latent_batch", "modules.sd_samplers:create_sampler"),
        *("ldm.models.autoencoder:AutoencoderKL.encode", "ldm.models.autoencoder:AutoencoderKL.decode"),
    ),
    "generated": (
        *(f"{OURS}flow:{name}" for name in ("generated_frame", "_generate")),
        *(
            f"{OURS}source.generator:ContentGenerator.{name}"
            for name in ("traces", "pictures", "_run", "_add_picture")
        ),
        *(f"{OURS}source.generator:{name}" for name in ("host_request", "run_key", "batches", "decoded", "_infotext")),
        *(f"{OURS}source.tracer:RunTracer.{name}" for name in ("__enter__", "_note")),
    ),
    "content": (f"{OURS}flow:prepare_txt2img", f"{OURS}request.arguments:read_picture"),
    "mixed": (
        f"{OURS}flow:find_mix",
        *(f"{OURS}target.mix:{name}" for name in ("_mix", "_weights_of", "mixed_weights")),
        f"{CORE}mixing:interpolate",
    ),
    "networks": (
        *(f"{OURS}host.networks:{name}" for name in ("active", "only", "_activate", "files_of")),
        f"{OURS}source.prompts:check_tags",
        f"{OURS}host.networks:_require_loaded",
    ),
    "region": (f"{OURS}target.region_mask:_of_picture", f"{CORE}injection.region:Region.blend"),
    "aggregated": (
        *(f"{OURS}aggregation.companions:{name}" for name in ("take", "guided_noise", "Companions.open", "give_back")),
        *(f"{OURS}aggregation.merged:{name}" for name in ("spread_noise", "_Evaluation.__call__")),
    ),
}
"""By request: places without which it cannot be what was asked for, so that it fails, with a sentence."""

OPTIONAL: dict[str, tuple[str, ...]] = {
    "img2img": (
        *(f"{OURS}flow:settle_models", f"{OURS}source.models:trim"),
        f"{CORE}recordings.bank_cache:BankCache.put",
        f"{CORE}recordings.bank_cache:BankCache.get",
        f"{OURS}timing:TimeSplit.tell",
    ),
    "disk": (
        *(f"{OURS}cache.disk:TrajectoryFolder.{name}" for name in ("_index", "_read")),
        *(f"diskcache.core:Cache.{name}" for name in ("__init__", "set", "get", "reset", "volume")),
    ),
    "ahead": (f"{CORE}recordings.recorder:SourceRecorder._passed",),
}
"""Places without which it can: the picture is made, and the same."""

STOPPED = (
    *(f"{OURS}flow:{name}" for name in ("find_source", "prepare_img2img", "plan_sampler")),
    *(f"{OURS}source.at_work:{name}" for name in ("take", "another_vae", "give_back")),
    f"{OURS}source.models:load_beside",
    *(f"{OURS}source.inverter:{name}" for name in ("inversion_condition", "encode_picture", "invert")),
    *(f"{OURS}target.injected:{name}" for name in ("encode_prompt", "latents_of")),
    f"{OURS}target.sampling:TargetSampling.attach",
    *("modules.processing:decode_latent_batch", "modules.sd_models:load_model"),
)
"""Stages at which a button is pressed."""
