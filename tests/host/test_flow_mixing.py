"""A target between two checkpoints: it is that target, for Ditail's pass, and nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from flow_reference import COMPUTE, relative
from flow_state import unchanged_host
from harness.client import Answer
from harness.probe import Call, Probe, Records
from harness.server import WebUI
from safetensors.torch import load_file, save_file
from torch import nn

from ditail_ext.core import interpolate
from ditail_ext.standalone.checkpoint import open_checkpoint
from ditail_ext.standalone.model import Model

ALPHA, BETA, DELTA = "alpha.safetensors", "beta.safetensors", "delta.safetensors"
PROMPT, TAG = "a red circle", "<lora:tiny:1>"
HALFWAY = "halfway.safetensors"
UNET = "model.diffusion_model."
PLAIN = {"feature_ratio": 0.0, "attention_ratio": 0.0}
"""Nothing is injected: each call's output is the UNet's own."""


def mixed(weight: float, other: str = DELTA, **ditail: Any) -> dict[str, Any]:
    return {"source_checkpoint": BETA, "mix_checkpoint": other, "mix_weight": weight, **ditail}


def ask(
    webui: WebUI, probe: Probe, ditail: dict[str, Any], *, target: str = ALPHA, route: str = "img2img", **request: Any
) -> tuple[Answer, Records]:
    webui.post("/ditail/v1/cache/clear")
    probe.reset()
    overrides = {"sd_model_checkpoint": target, **request.pop("override_settings", {})}
    answer = getattr(webui, route)(ditail, override_settings=overrides, **request)
    assert answer.status == 200, answer.body
    return answer, probe.records()


def sample(webui: WebUI, probe: Probe, ditail: dict[str, Any], **request: Any) -> torch.Tensor:
    return torch.as_tensor(ask(webui, probe, ditail, **request)[1].samples[0])


def plain(webui: WebUI, prompt: str = PROMPT, target: str = ALPHA) -> list[bytes]:
    return webui.txt2img(prompt=prompt, override_settings={"sd_model_checkpoint": target}).pixels


def put(webui: WebUI, name: str, tensors: dict[str, torch.Tensor]) -> None:
    """A further checkpoint with alpha's configuration."""
    path = webui.checkpoints / name
    save_file(tensors, path)
    path.with_suffix(".yaml").write_bytes((webui.checkpoints / "alpha.yaml").read_bytes())
    assert webui.post("/sdapi/v1/refresh-checkpoints").status == 200


@pytest.fixture
def add_file(webui: WebUI) -> Iterator[Callable[[str], Path]]:
    """Gives the path of a checkpoint of one's own, removed after the test; to be refreshed when it is written."""
    made: list[Path] = []

    def add(name: str) -> Path:
        made.append(webui.checkpoints / name)
        return made[-1]

    yield add
    for path in made:
        path.unlink()
        path.with_suffix(".yaml").unlink(missing_ok=True)
    webui.post("/sdapi/v1/refresh-checkpoints")


@pytest.fixture
def halfway(webui: WebUI, add_file: Callable[[str], Path]) -> str:
    """A checkpoint of which the UNet is halfway from alpha to delta, as a merging tool would make it."""
    own, other = (load_file(webui.checkpoints / name) for name in (ALPHA, DELTA))
    merged = {key: interpolate(own[key], other[key], 0.5 if key.startswith(UNET) else 0.0) for key in own}
    add_file(HALFWAY)
    put(webui, HALFWAY, merged)
    return HALFWAY


def test_weight_0_is_the_target_alone(webui: WebUI, probe: Probe):
    without, _ = ask(webui, probe, {"source_checkpoint": BETA})
    answer, records = ask(webui, probe, mixed(0.0))
    assert answer.pixels == without.pixels
    assert records.loads == [BETA, ALPHA]
    assert "Ditail without effect: mix_checkpoint" in answer.infotext
    assert "mix" not in answer.info["extra_generation_params"]["Ditail seconds"]


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
@pytest.mark.parametrize(
    ("target", "other"), [(ALPHA, DELTA), ("twin.safetensors", "twin.ckpt"), ("twin.ckpt", "twin.safetensors")]
)
def test_weight_1_is_the_other_checkpoint_as_target(webui: WebUI, probe: Probe, target: str, other: str, sampler: str):
    found = sample(webui, probe, mixed(1.0, other), target=target, sampler_name=sampler)
    alone = {"source_checkpoint": BETA}
    assert torch.equal(found, sample(webui, probe, alone, target=other, sampler_name=sampler))
    assert relative(found, sample(webui, probe, alone, target=target, sampler_name=sampler)) > 0.05


@pytest.mark.parametrize("route", ["img2img", "txt2img"])
@pytest.mark.parametrize("prompt", [PROMPT, f"{PROMPT} {TAG}"], ids=["plain", "LoRA"])
def test_a_mix_is_the_merged_checkpoint_as_target(webui: WebUI, probe: Probe, halfway: str, prompt: str, route: str):
    """In txt2img the source generates the content."""
    ditail = {"inversion_prompt": PROMPT}
    request = {"route": route, "prompt": prompt, "n_iter": 2}
    found, records = ask(webui, probe, mixed(0.5, **ditail), **request)
    expected, merged = ask(webui, probe, {"source_checkpoint": BETA, **ditail}, target=halfway, **request)
    assert len(records.samples) == 2
    assert all((a == b).all() for a, b in zip(records.samples, merged.samples, strict=True))
    assert found.pixels == expected.pixels
    assert found.info["extra_generation_params"]["Ditail seconds"]["mix"] > 0


@pytest.mark.parametrize("functional", [False, True])
def test_loras_before_during_and_after(webui: WebUI, probe: Probe, halfway: str, functional: bool):
    """The host keeps copies of the weights that it merged LoRAs into: neither mixed nor merged ones may stay."""
    plain(webui)  # what is merged when the option changes, the host leaves merged
    webui.post("/sdapi/v1/options", {"lora_functional": functional})
    try:
        before = plain(webui), plain(webui, f"{PROMPT} {TAG}")
        for prompt in (f"{PROMPT} {TAG}", PROMPT, f"{PROMPT} <lora:tiny:0.5>"):
            found = sample(webui, probe, mixed(0.5, inversion_prompt=PROMPT), prompt=prompt)
            after = plain(webui, f"{PROMPT} {TAG}"), plain(webui)
            assert after == before[::-1]
            alone = {"source_checkpoint": BETA, "inversion_prompt": PROMPT}
            assert torch.equal(found, sample(webui, probe, alone, target=halfway, prompt=prompt))
            plain(webui, f"{PROMPT} {TAG}")  # the next mix starts from merged weights
    finally:
        webui.post("/sdapi/v1/options", {"lora_functional": False})


class Networks:
    """The UNets of the tests' checkpoints, to ask which of them computed a call."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._unets = {name: self._load(folder, name) for name in names}

    @staticmethod
    def _load(folder: Path, name: str) -> nn.Module:
        unet = Model(open_checkpoint((folder / ALPHA).resolve()), COMPUTE).unet
        path = folder / name
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path)["state_dict"]
        unet.load_state_dict({key[len(UNET) :]: value for key, value in state.items() if key.startswith(UNET)})
        return unet

    @torch.no_grad()
    def of(self, call: Call) -> list[str]:
        inputs = [torch.as_tensor(value) for value in (call.x, call.timesteps, call.context)]
        made = {name: unet(inputs[0], inputs[1], context=inputs[2]) for name, unet in self._unets.items()}
        return [name for name, output in made.items() if relative(output, call.output) < 1e-3]

    def in_order(self, calls: list[Call]) -> list[str]:
        """Who computed them, each once while nobody else takes over."""
        order: list[str] = []
        for call in calls:
            (name,) = self.of(call)
            if order[-1:] != [name]:
                order.append(name)
        return order


def test_a_source_that_is_the_target_inverts_unmixed(webui: WebUI, probe: Probe):
    _, records = ask(webui, probe, mixed(1.0, source_checkpoint="same as target", **PLAIN))
    assert Networks(webui.checkpoints, ALPHA, DELTA).in_order(records.calls) == [ALPHA, DELTA]


def test_hires_fix_goes_on_unmixed(webui: WebUI, probe: Probe):
    request = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.6}
    with unchanged_host(webui):
        _, records = ask(webui, probe, mixed(1.0, **PLAIN), route="txt2img", **request)
        calls = [call for call in records.calls if call.sampling]
        assert Networks(webui.checkpoints, ALPHA, DELTA).in_order(calls) == [DELTA, ALPHA]
        assert {call.x.shape[-1] for call in calls} == {16, 24}


@pytest.mark.parametrize("prompt", [PROMPT, f"{PROMPT} {TAG}"], ids=["plain", "LoRA"])
def test_the_mix_ends_before_a_refiner_is_loaded_into_the_same_unet(webui: WebUI, probe: Probe, prompt: str):
    target, refiner = "twin.safetensors", "twin.ckpt"
    request = {"refiner_checkpoint": refiner, "refiner_switch_at": 0.6, "steps": 10, "denoising_strength": 0.9}
    expected = plain(webui, target=target), plain(webui, target=refiner)
    _, records = ask(webui, probe, mixed(1.0, ALPHA, **PLAIN), target=target, prompt=prompt, **request)
    if prompt == PROMPT:
        calls = [call for call in records.calls if call.sampling]
        networks = Networks(webui.checkpoints, ALPHA, target, refiner)
        assert networks.in_order(calls) == [ALPHA, refiner]
    assert plain(webui, target=refiner) == expected[1]  # it is still loaded: nothing was put back into it
    assert plain(webui, target=target) == expected[0]


def test_the_mix_ends_in_a_target_that_waits_for_the_refiner(start_webui: Callable[..., WebUI]):
    webui = start_webui(options={"sd_model_checkpoint": ALPHA, "sd_checkpoints_limit": 2})
    request = {"refiner_checkpoint": DELTA, "refiner_switch_at": 0.6, "steps": 10, "denoising_strength": 0.9}
    plain(webui, target=DELTA)  # both are held from here on
    with unchanged_host(webui):
        state = webui.probe.state()["weights"]
        ask(webui, webui.probe, mixed(0.5, BETA, source_checkpoint="same as target"), **request)
        assert webui.probe.state()["weights"] != state  # the refiner's
        plain(webui)
        assert webui.probe.state()["weights"] == state


@pytest.mark.parametrize("prompt", [PROMPT, f"{PROMPT} {TAG}"], ids=["plain", "LoRA"])
@pytest.mark.parametrize("cached", [False, True])
def test_weights_of_8_bits(start_webui: Callable[..., WebUI], prompt: str, cached: bool):
    """With the option, the host keeps copies in half precision beside them, to merge LoRAs into."""
    webui = start_webui(options={"fp8_storage": "Enable", "cache_fp16_weight": cached})
    # In half precision: after the first one, the host rounds what it does not keep in 8 bits to that when it loads.
    tensors = load_file(webui.checkpoints / DELTA)
    put(
        webui,
        "half.safetensors",
        {key: value.half() if key.startswith(UNET) else value for key, value in tensors.items()},
    )
    told = {"inversion_prompt": PROMPT}
    expected, own = (
        sample(webui, webui.probe, {"source_checkpoint": BETA, **told}, prompt=prompt, target=name)
        for name in ("half.safetensors", ALPHA)
    )
    with unchanged_host(webui):
        before = plain(webui, prompt)
        found = sample(webui, webui.probe, mixed(1.0, "half.safetensors", **told), prompt=prompt)
        assert torch.equal(found, expected)
        halfway = sample(webui, webui.probe, mixed(0.5, "half.safetensors", **told), prompt=prompt)
        assert all(relative(halfway, end) > 0.1 for end in (expected, own))
        assert plain(webui, prompt) == before
        plain(webui)


@pytest.mark.parametrize("flag", ["--medvram", "--lowvram"])
def test_weights_that_the_host_moves_about(start_webui: Callable[..., WebUI], webui: WebUI, probe: Probe, flag: str):
    other = start_webui(flags=[flag])
    expected = sample(webui, probe, mixed(0.5))
    with unchanged_host(other):
        assert relative(sample(other, other.probe, mixed(0.5)), expected) < 1e-4
        plain(other)


@pytest.mark.parametrize("prompt", [PROMPT, f"{PROMPT} {TAG}"], ids=["plain", "LoRA"])
@pytest.mark.parametrize("end", [{"throw_at": 6}, {"throw_at": 6, "throw": "OutOfMemoryError"}, {"stop_at": 6}, {}])
def test_it_comes_back_however_the_request_ends(webui: WebUI, probe: Probe, prompt: str, end: dict[str, Any]):
    with unchanged_host(webui):
        plain(webui, prompt)
        probe.reset(**end)
        answer = webui.img2img(mixed(0.3, source_checkpoint="same as target"), prompt=prompt, batch_size=2)
        assert (answer.status == 200) == ("throw_at" not in end), answer.body
        plain(webui)  # the host takes the LoRA out only when it computes without it


def recorded(records: Records) -> int:
    return sum(call.output is None for call in records.calls)


def test_features_are_kept_for_each_mix_apart(webui: WebUI, probe: Probe):
    def again(ditail: dict[str, Any]) -> Records:
        probe.reset()
        assert webui.img2img(ditail, seed=9).status == 200
        return probe.records()

    _, first = ask(webui, probe, mixed(0.5))
    assert recorded(again(mixed(0.5))) == 0
    for other in (mixed(0.4), mixed(0.5, BETA), {"source_checkpoint": BETA}):
        kept = again(other)
        assert recorded(kept) == recorded(first) > 0
        _, fresh = ask(webui, probe, other)
        assert relative(kept.samples[0], fresh.samples[0]) < 1e-5
        ask(webui, probe, mixed(0.5))


def test_the_infotext_asks_for_the_same_mix(webui: WebUI, probe: Probe):
    first, _ = ask(webui, probe, mixed(0.3))
    assert "Ditail mix with: delta.safetensors [" in first.infotext
    assert "Ditail mix weight: 0.3" in first.infotext
    again = webui.img2img(infotext=first.infotext)
    assert again.status == 200, again.body
    assert again.infotext.split("Ditail")[1:] == first.infotext.split("Ditail")[1:]
    assert again.pixels == first.pixels


@pytest.mark.parametrize(
    ("ditail", "named"),
    [
        ({"mix_weight": 0.5}, "mix_weight"),
        ({"mix_checkpoint": DELTA}, "mix_checkpoint"),
        (mixed(0.5, ALPHA), "mix_checkpoint and mix_weight"),
    ],
)
def test_what_has_no_effect_is_said(webui: WebUI, probe: Probe, ditail: dict[str, Any], named: str):
    without, _ = ask(webui, probe, {"source_checkpoint": BETA})
    answer, _ = ask(webui, probe, {"source_checkpoint": BETA, **ditail})
    assert f"Ditail without effect: {named}," in answer.infotext
    assert answer.pixels == without.pixels


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _unchanged(self, webui: WebUI) -> Iterator[None]:
        with unchanged_host(webui):
            yield

    def refused(self, webui: WebUI, name: str, *words: str) -> None:
        answer = webui.img2img(mixed(0.5, name))
        assert answer.status == 422, answer.body
        assert answer.sentence.startswith("mix_checkpoint: ")
        assert answer.sentence.endswith(".")
        assert all(word in answer.sentence for word in (name, *words)), answer.sentence

    @pytest.mark.parametrize("weight", [0.0, 0.5])
    def test_an_unknown_checkpoint(self, webui: WebUI, probe: Probe, weight: float):
        answer = webui.img2img(mixed(weight, "nothing"))
        assert (answer.status, "no checkpoint named 'nothing'" in answer.sentence) == (422, True), answer.body
        assert probe.records().loads == []

    @pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
    def test_another_architecture(self, webui: WebUI, probe: Probe, add_file: Callable[[str], Path], suffix: str):
        tensors = load_file(webui.checkpoints / DELTA)
        key = f"{UNET}output_blocks.3.1.proj_in.weight"
        tensors[key] = tensors[key].flatten(1)  # as in SD2
        path = add_file(f"other{suffix}")
        if suffix == ".ckpt":
            torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=False)
        else:
            save_file(tensors, path)
        webui.post("/sdapi/v1/refresh-checkpoints")
        self.refused(webui, path.name, "another architecture", "output_blocks.3.1.proj_in.weight")
        if suffix == ".safetensors":
            assert probe.records().loads == []  # before anything is touched

    @pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
    def test_a_damaged_file(self, webui: WebUI, add_file: Callable[[str], Path], suffix: str):
        path = add_file(f"short{suffix}")
        content = (webui.checkpoints / f"twin{suffix}").read_bytes()
        path.write_bytes(content[: len(content) // 2])
        webui.post("/sdapi/v1/refresh-checkpoints")
        self.refused(webui, path.name)
