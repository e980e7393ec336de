from pathlib import Path

from ditail_probe import blind, breaking, memory, recorder, state
from fastapi import Body, Response
from modules import paths_internal, script_callbacks, scripts, sd_models_config, shared

ONE_YAML = Path(paths_internal.data_path) / "one.yaml"
"""The configuration of small checkpoints that have none of their own, where a test's server lays one out."""


class Probe(scripts.Script):
    def title(self):
        return "Probe"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def process_batch(self, p, *args, **kwargs):
        if getattr(p, "init_latent", None) is not None:
            recorder.RECORDER.init_latents.append(recorder.pack(p.init_latent))

    def post_sample(self, p, ps, *args):
        recorder.RECORDER.samples.append(recorder.pack(ps.samples))


def add_routes(_demo, app):
    app.add_api_route("/probe/reset", reset, methods=["POST"])
    app.add_api_route("/probe/count", _count, methods=["GET"])
    app.add_api_route("/probe/records", lambda: Response(recorder.RECORDER.report()), methods=["GET"])
    app.add_api_route("/probe/blind", lambda fact=None: blind.to(fact), methods=["POST"])
    app.add_api_route("/probe/option", lambda name: getattr(shared.opts, name), methods=["GET"])
    app.add_api_route("/probe/held", memory.held, methods=["GET"])
    app.add_api_route("/probe/resident", memory.resident, methods=["GET"])
    app.add_api_route("/probe/reload", lambda: shared.state.request_restart(), methods=["POST"])
    app.add_api_route("/probe/state", state.snapshot, methods=["GET"])


def _count():
    return {"calls": len(recorder.RECORDER.calls), "reached": breaking.BREAKER.reached}


def reset(switches: dict = Body(default={})):  # noqa: B008
    recorder.RECORDER.reset(switches)


script_callbacks.on_app_started(add_routes)
if ONE_YAML.is_file():
    sd_models_config.config_default = str(ONE_YAML)
