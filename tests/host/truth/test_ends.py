"""Interrupt and Skip while the source works, whatever the host's grid options; a disk that fails ends nothing."""

from __future__ import annotations

import pytest
from harness.client import alike, circle, encode
from harness.probe import Probe
from harness.server import WebUI
from harness.state import options, unchanged_host

from ditail_ext.pictures import as_mask

BETA = {"source_checkpoint": "beta.safetensors"}


@pytest.mark.parametrize("one_in_a_grid", [True, False])
@pytest.mark.parametrize("stop", ["interrupt", "skip"])
@pytest.mark.parametrize("tab", ["img2img", "txt2img"])
def test_stopped_while_the_source_works(webui: WebUI, probe: Probe, tab: str, stop: str, one_in_a_grid: bool):
    changed = {"grid_only_if_multiple": not one_in_a_grid, "return_grid": True, "grid_save": False}
    with options(webui, changed), unchanged_host(webui):
        probe.reset(stop_at=2, stop=stop)
        answer = getattr(webui, tab)(BETA, n_iter=2)
        assert answer.status == 200, answer.body
        assert answer.body["images"] == []
        assert not [call for call in probe.records().calls if call.sampling and call.checkpoint == "alpha.safetensors"]


def test_stop_generating_lets_the_picture_at_hand_be_finished(webui: WebUI, probe: Probe):
    """With all that is injected into it; the host makes no further one."""
    small = {"width": 128, "height": 64, "steps": 4, "n_iter": 2}
    expected = webui.img2img(BETA, **small)
    for place in ("target.injected:latents_of", "target.sampling:TargetSampling.attach"):
        webui.post("/ditail/v1/cache/clear")
        probe.reset(break_in=f"ditail_ext.webui.{place}", break_with="stop_generating")
        answer = webui.img2img(BETA, **small)
        assert probe.reached()
        assert answer.status == 200, answer.body
        assert answer.pixels[-1:] == expected.pixels[-1:]


def test_a_damaged_index_on_disk(webui: WebUI, probe: Probe):
    """The picture is made, and made the same."""
    small = {"width": 128, "height": 64, "steps": 3}
    with options(webui, {"ditail_disk_cache_mb": 64}):
        first = webui.img2img(BETA, **small)
        damaged = list((webui.data / "cache" / "ditail").rglob("cache.db*"))
        assert damaged, "the inversion was to be kept on disk"
        for path in damaged:
            path.write_bytes(b"no database" * 400)
        again = webui.img2img({**BETA, "positive_scale": 2.0}, **small)
        assert again.status == 200, again.body
        assert webui.post("/ditail/v1/cache/clear").status == 200
        assert webui.img2img(BETA, **small).pixels == first.pixels


AHEAD = {"ditail_record_rows": 8}


def recorded(probe: Probe) -> int:
    """Rows of the source that went through the target."""
    return sum(call.rows for call in probe.records().calls if call.sampling and call.output is None)


@pytest.mark.parametrize(
    "request_",
    [{"sampler_name": "Euler", "s_churn": 10.0}, {"sampler_name": "DPM adaptive"}, {"sampler_name": "Heun"}],
    ids=lambda request_: request_["sampler_name"],
)
def test_nothing_is_recorded_ahead_for_nothing(webui: WebUI, probe: Probe, request_: dict[str, object]):
    """Where evaluations miss the levels that were planned, no more rows are recorded than one at a time, but once."""
    full = {"attention_ratio": 1.0, "feature_ratio": 1.0, **BETA}
    probe.reset()
    one = webui.img2img(full, width=128, height=64, **request_)
    assert one.status == 200, one.body
    alone = recorded(probe)
    webui.post("/ditail/v1/cache/clear")
    with options(webui, AHEAD):
        probe.reset()
        ahead = webui.img2img(full, width=128, height=64, **request_)
    assert ahead.status == 200, ahead.body
    assert alone <= recorded(probe) <= alone + 8
    assert ahead.info["all_seeds"] == one.info["all_seeds"]


@pytest.mark.parametrize(
    "place",
    [
        "ditail_ext.core.recordings.recorder:SourceRecorder._passed",
        "ditail_ext.core.recordings.bank_cache:BankCache.put",
        "ditail_ext.core.recordings.bank_cache:BankCache.get",
    ],
)
def test_out_of_memory_in_optional_work(webui: WebUI, probe: Probe, place: str):
    """What is recorded ahead or kept is not needed for the picture, which is made, and the same."""
    small, full = {"width": 128, "height": 64}, {"attention_ratio": 1.0, "feature_ratio": 1.0, **BETA}
    with options(webui, {**AHEAD, "ditail_features_mb": 64}):
        expected = webui.img2img(full, **small)
        webui.post("/ditail/v1/cache/clear")
        probe.reset(break_in=place, break_with="OutOfMemoryError")
        answer = webui.img2img(full, **small)
        assert probe.reached()
    assert answer.status == 200, answer.body
    assert alike(answer.pixels, expected.pixels)


def test_a_way_around_the_model_is_no_picture(webui: WebUI, probe: Probe):
    """Another extension whose sampler calls the model's class, and not what Ditail has put on the object."""
    with unchanged_host(webui):
        probe.reset(break_in="k_diffusion.external:CompVisDenoiser.__call__", break_with="go around")
        answer = webui.img2img(BETA, width=128, height=64, sampler_name="Euler")
        assert probe.reached()
        assert answer.status == 422, answer.body
        assert "goes around the model that Ditail injects into" in answer.sentence
    probe.reset()


def test_the_opacity_of_a_mask(webui: WebUI, probe: Probe):
    """A mask's opacity counts, as for the host's own; the command line's reader is the same."""
    grey = circle().convert("L").point(lambda value: 255 if value < 120 else 0)
    opaque = circle()
    opaque.putalpha(grey)
    assert as_mask(opaque).tobytes() == grey.tobytes()
    pictures = [webui.img2img({**BETA, "mask": encode(mask)}, width=128, steps=4) for mask in (grey, opaque)]
    assert [answer.status for answer in pictures] == [200, 200], [answer.sentence for answer in pictures]
    assert pictures[0].pixels == pictures[1].pixels
    assert pictures[0].pixels != webui.img2img(BETA, width=128, steps=4).pixels
