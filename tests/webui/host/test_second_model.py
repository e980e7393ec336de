"""A second model beside the loaded one: where the weights are meanwhile, and that the host's variables come back."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ditail_ext.errors import CheckpointError

MIB = 2**20


class Model(nn.Module):
    """As much of a host's model as the second one needs; its device is a note, for there is none but the CPU here."""

    def __init__(self, name: str, width: int = 8) -> None:
        super().__init__()
        self.model = nn.Conv2d(4, width, 1)
        self.first_stage_model = nn.Linear(2, 2)
        self.sd_checkpoint_info = info(name)
        self.lowvram, self.is_sdxl, self.place = False, False, "device"
        self.cond_stage_model = SimpleNamespace(encode_embedding_init_text=lambda *_: torch.zeros(1, width))


def info(name: str) -> Any:
    return SimpleNamespace(filename=f"/nowhere/{name}", title=name, sha256=f"hash of {name}")


class Loader:
    """The host's ``sd_models``: what it was told to move and to load, in order, in ``log``."""

    def __init__(self, modules: Any) -> None:
        self.modules, self.log = modules, []
        target = Model("target")
        self.model_data = SimpleNamespace(sd_model=target, loaded_sd_models=[target], first=target)
        self.model_data.set_sd_model = self._set
        self.send_model_to_cpu = functools.partial(self._move, place="cpu")
        self.send_model_to_device = functools.partial(self._move, place="device")
        self.send_model_to_trash = functools.partial(self._move, place="trash")
        self.apply_alpha_schedule_override = lambda model: None
        self.check_fp8 = lambda model: False
        self.SkipWritingToConfig = nullcontext

    def _move(self, model: Any, place: str) -> None:
        model.place = place
        self.log.append(f"{model.sd_checkpoint_info.title} to {place}")

    def _set(self, model: Any, already_loaded: bool) -> None:
        data = self.model_data
        data.sd_model = model
        data.loaded_sd_models = [model, *(one for one in data.loaded_sd_models if one is not model)]

    def load_model(self, wanted: Any) -> None:
        data, hijack = self.model_data, self.modules.sd_hijack.model_hijack
        assert data.sd_model is None, "the host would throw the loaded model away"
        self.log.append(f"load {wanted.title}")
        made = Model(wanted.title, width=16 if wanted.title == "wide" else 8)
        hijack.apply_optimizations()
        hijack.embedding_db.load_textual_inversion_embeddings(force_reload=True)
        hijack.clip, hijack.layers = made.cond_stage_model, list(made.modules())
        data.sd_model, data.loaded_sd_models = made, [made, *data.loaded_sd_models]
        self.modules.devices.dtype_unet, self.modules.devices.fp8 = "of the source", True
        self.modules.shared.opts.data |= {"sd_checkpoint_hash": wanted.sha256, "sd_model_checkpoint": wanted.title}
        self.modules.script_callbacks.model_loaded_callback(made)
        if wanted.title == "broken":
            raise ValueError("no such weights\nand more")
        if wanted.title == "huge" and self.log.count("load huge") == 1:
            raise torch.cuda.OutOfMemoryError("full")


def hijack_of(loader: Loader) -> Any:
    hijack = SimpleNamespace(clip="the target's", layers=[], circular_enabled=False)
    hijack.embedding_db = Table(loader.model_data, loader.log)
    hijack.apply_optimizations = lambda option=None: loader.log.append("patched classes")
    hijack.apply_circular = lambda enabled: setattr(hijack, "circular_enabled", enabled)
    return hijack


def callbacks_of(loader: Loader) -> list[Any]:
    def told(where: str) -> Any:
        return SimpleNamespace(script=f"/{where}/x.py", callback=lambda model: loader.log.append(f"told {where}"))

    return [told("builtin"), told("extensions")]


@pytest.fixture
def webui(host: SimpleNamespace) -> SimpleNamespace:
    """A host on a GPU; ``webui.log`` has what it was told."""
    modules = host.modules
    loader = Loader(modules)
    vars(modules.sd_models).update(vars(loader), load_model=loader.load_model)
    modules.sd_models.get_checkpoint_state_dict = lambda wanted: {}
    precision = {"dtype_unet": "float16", "dtype_vae": torch.float32, "fp8": False, "unet_needs_upcast": False}
    callbacks = callbacks_of(loader)
    host.fake(
        devices={"device": torch.device("cuda"), "cpu": torch.device("cpu"), **precision},
        lowvram={"send_everything_to_cpu": lambda: loader.log.append("everything to cpu")},
        script_callbacks={"ordered_callbacks": lambda kind: callbacks, "model_loaded_callback": lambda model: None},
        sd_hijack={"model_hijack": hijack_of(loader)},
        sd_unet={"original_forward": "ldm's"},
    )
    vars(modules.sd_vae).update(base_vae=None, loaded_vae_file=None, checkpoint_info=None)
    modules.sd_vae.reload_vae_weights = lambda model: loader.log.append(f"vae of {model.sd_checkpoint_info.title}")
    modules.paths_internal.extensions_builtin_dir = "/builtin"
    modules.shared.opts.data = {"sd_checkpoint_hash": "hash of target"}
    modules.shared.parallel_processing_allowed = True
    return SimpleNamespace(
        log=loader.log,
        data=loader.model_data,
        modules=modules,
        module=host.load("host.beside.second_model"),
        held=host.load("host.beside.held"),
        state=functools.partial(snapshot, modules),
    )


class Table:
    """Textual inversions that fit the loaded model's text encoder."""

    def __init__(self, data: Any, log: list[str]) -> None:
        self.ids_lookup: dict[Any, Any] = {}
        self.word_embeddings: dict[str, Any] = {"of the target": 1}
        self.skipped_embeddings: dict[str, Any] = {}
        self.expected_shape, self.previously_displayed_embeddings = 8, ()
        self._data, self._log = data, log

    def load_textual_inversion_embeddings(self, force_reload: bool = False) -> None:
        self._log.append("embeddings")
        self.word_embeddings.clear()
        self.word_embeddings[f"of {self._data.sd_model.sd_checkpoint_info.title}"] = 1


def snapshot(modules: Any) -> dict[str, Any]:
    hijack, data = modules.sd_hijack.model_hijack, modules.sd_models.model_data
    return {
        "model": id(data.sd_model),
        "place": data.sd_model.place,
        "held": [id(model) for model in data.loaded_sd_models],
        "devices": {name: value for name, value in vars(modules.devices).items() if name[0] != "_"},
        "vae": [modules.sd_vae.base_vae, modules.sd_vae.loaded_vae_file, modules.sd_vae.checkpoint_info],
        "hijack": {name: value for name, value in vars(hijack).items() if name != "embedding_db"},
        "embeddings": [dict(hijack.embedding_db.word_embeddings), hijack.embedding_db.expected_shape],
        "embedding functions": "load_textual_inversion_embeddings" in vars(hijack.embedding_db),
        "forward": modules.sd_unet.original_forward,
        "options": dict(modules.shared.opts.data),
        "allowed": modules.shared.parallel_processing_allowed,
        "callback": modules.script_callbacks.model_loaded_callback,
    }


def free(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, nbytes: int) -> None:
    monkeypatch.setattr(webui.module, "free_bytes", lambda device: nbytes)


def test_with_room_for_both_the_target_stays_where_it_is(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    free(webui, monkeypatch, 2**40)
    before = webui.state()
    second = webui.module.load_beside(info("source"))
    assert webui.state() == before
    with second.at_work() as model:
        assert webui.data.sd_model is model is second.model
        assert webui.data.first.place == "device"
        assert webui.modules.devices.dtype_unet == "of the source"
    assert webui.state() == before
    assert webui.log == ["load source", "told builtin", "source to device", "source to cpu"]
    assert second.nbytes == sum(tensor.numel() * 4 for tensor in second.model.parameters())


def test_a_model_that_stays_is_moved_once(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    free(webui, monkeypatch, 2**40)
    second = webui.module.load_beside(info("source"))
    for room in (2**40, webui.module.WORKING_BYTES):  # its own weights take what was free
        free(webui, monkeypatch, room)
        with second.at_work(stay=True):
            assert (second.model.place, webui.data.first.place) == ("device", "device")
        assert second.model.place == "device"
        assert webui.data.sd_model is webui.data.first
    second.leave()
    assert second.model.place == "cpu"
    assert [entry for entry in webui.log if entry.startswith("target")] == []


def test_without_room_two_models_take_turns(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    free(webui, monkeypatch, 0)
    second, target = webui.module.load_beside(info("source")), webui.data.first
    for _ in range(2):
        with second.at_work(stay=True):
            assert (second.model.place, target.place) == ("device", "cpu")
        assert (second.model.place, target.place) == ("cpu", "device")
    second.leave()
    assert second.model.place == "cpu"


def test_without_room_its_weights_wait_in_main_memory(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    free(webui, monkeypatch, 0)
    before, target = webui.state(), webui.data.first
    with webui.module.load_beside(info("source")).at_work():
        assert target.place == "cpu"
    assert webui.state() == before
    moves = [entry for entry in webui.log if entry.startswith("target")]
    assert moves == ["target to cpu", "target to device"] * 2  # to load, and to work


@pytest.mark.parametrize("room", [0, 2**40])
def test_a_source_that_breaks_leaves_nothing(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, room: int):
    free(webui, monkeypatch, room)
    before = webui.state()
    with pytest.raises(Exception, match=r"'broken' could not be loaded \(ValueError: no such weights\); choose"):
        webui.module.load_beside(info("broken"))
    assert webui.state() == before


class TestWeightsAreLookedAt:
    """Whatever the file's format, as soon as they are read."""

    WHOLE = ("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x", "cond_stage_model.x")

    @pytest.fixture
    def load(self, webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Any:
        free(webui, monkeypatch, 2**40)
        host, load = webui.modules.sd_models, webui.modules.sd_models.load_model

        def loaded(names: tuple[str, ...], channels: int = 4) -> Any:
            host.get_checkpoint_state_dict = lambda wanted: {name: torch.ones(4, channels) for name in names}

            def read_and_load(wanted: Any) -> None:
                host.get_checkpoint_state_dict(wanted)
                load(wanted)

            host.load_model = read_and_load
            return webui.module.load_beside(info("source"))

        return loaded

    def test_a_whole_one(self, load: Any):
        assert load(self.WHOLE).has_vae

    def test_without_vae(self, load: Any):
        assert not load((self.WHOLE[0], self.WHOLE[2])).has_vae

    @pytest.mark.parametrize(
        ("names", "channels", "says"),
        [
            (("lora_unet_out.lora_up.weight",), 4, "holds no Stable Diffusion UNet"),
            (WHOLE[1:], 4, "holds no Stable Diffusion UNet"),
            (WHOLE[:2], 4, "has no text encoder"),
            (WHOLE, 9, "takes 9 channels"),
        ],
    )
    def test_what_is_none(self, webui: SimpleNamespace, load: Any, names: tuple[str, ...], channels: int, says: str):
        before = webui.state()
        with pytest.raises(CheckpointError, match=says):
            load(names, channels)
        assert webui.state() == before


def test_whatever_fails_while_it_rests_the_target_is_back(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    free(webui, monkeypatch, 2**40)
    second, target = webui.module.load_beside(info("source")), webui.data.first

    calls = []

    def fail_at_the_end(_self: Any, model: Any, enabled: bool) -> None:
        calls.append(webui.data.sd_model)
        if len(calls) == 2:
            raise RuntimeError("thrown")

    monkeypatch.setattr(type(webui.module.kinds.of(second.model)), "tile", fail_at_the_end)
    with pytest.raises(RuntimeError, match="thrown"), second.at_work():
        pass
    assert calls == [second.model] * 2
    assert webui.data.sd_model is target


def test_out_of_memory_is_tried_again_with_the_target_away(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    free(webui, monkeypatch, 2**40)
    before = webui.state()
    webui.module.load_beside(info("huge"))
    assert webui.state() == before
    assert webui.log.count("load huge") == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, torch.cuda.OutOfMemoryError])
def test_whatever_happens_at_work_the_target_is_back(
    webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
):
    free(webui, monkeypatch, 0)
    second = webui.module.load_beside(info("source"))
    before = webui.state()
    with pytest.raises(error), second.at_work():
        raise error
    assert webui.state() == before
    assert second.model.place == "cpu"


def test_a_move_without_room_is_tried_again_in_the_target_s_place(
    webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    free(webui, monkeypatch, 2**40)
    second = webui.module.load_beside(info("source"))
    before, target = webui.state(), webui.data.first
    to_device = webui.modules.sd_models.send_model_to_device

    def only_alone(model: Any) -> None:
        if model is second.model and target.place == "device":
            raise torch.cuda.OutOfMemoryError("full")
        to_device(model)

    webui.modules.sd_models.send_model_to_device = only_alone
    with second.at_work():
        assert (second.model.place, target.place) == ("device", "cpu")
    assert webui.state() == before
    assert webui.log[-3:] == ["source to cpu", "target to device", "source to cpu"], "the source leaves first"


def test_a_move_that_fails_leaves_the_target(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    free(webui, monkeypatch, 2**40)
    second = webui.module.load_beside(info("source"))
    before = webui.state()
    to_device = webui.modules.sd_models.send_model_to_device

    def fail_once(model: Any) -> None:
        if model is second.model:
            raise torch.cuda.OutOfMemoryError("full")
        to_device(model)

    webui.modules.sd_models.send_model_to_device = fail_once
    with pytest.raises(torch.cuda.OutOfMemoryError), second.at_work():
        pytest.fail("at work")
    assert webui.state() == before
    with pytest.raises(torch.cuda.OutOfMemoryError):
        webui.module.exchange(second)
    assert webui.state() == before


def test_another_width_of_text_has_embeddings_of_its_own(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    free(webui, monkeypatch, 2**40)
    table = webui.modules.sd_hijack.model_hijack.embedding_db
    known = table.word_embeddings
    before = webui.state()
    with webui.module.load_beside(info("wide")).at_work():
        assert table.word_embeddings == {"of wide": 1}
    assert webui.state() == before
    assert table.word_embeddings is known, "others hold references to the dictionary"


def test_tiling_is_the_source_s_too_while_it_works(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    free(webui, monkeypatch, 2**40)
    second = webui.module.load_beside(info("source"))
    webui.modules.sd_hijack.model_hijack.circular_enabled = True
    with second.at_work():
        assert second.model.model.padding_mode == "circular"
    assert second.model.model.padding_mode == "zeros"
    assert webui.modules.sd_hijack.model_hijack.circular_enabled


def test_exchange(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    free(webui, monkeypatch, 2**40)
    target, before = webui.data.first, webui.state()
    second = webui.module.load_beside(info("source"))
    source = second.model
    other = webui.module.exchange(second)
    assert (webui.data.sd_model, webui.data.loaded_sd_models) == (source, [source])
    assert (source.place, target.place, other.model) == ("device", "cpu", target)
    back = webui.module.exchange(other)
    assert back.model is source
    assert webui.state() == before


def test_a_model_that_the_host_holds_is_not_loaded_again(webui: SimpleNamespace):
    held = Model("held")
    webui.data.loaded_sd_models.append(held)
    found = webui.held.held_by_host(held.sd_checkpoint_info)
    assert found.model is held
    assert webui.held.held_by_host(webui.data.first.sd_checkpoint_info) is None
    assert webui.held.held_by_host(info("unknown")) is None
