"""What the host lists is found exactly, also while somebody refreshes its lists."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ditail_ext.errors import CheckpointError


def checkpoint(name: str) -> Any:
    return SimpleNamespace(name=name, title=f"{name} [abc]", filename=f"/models/{name}", ids=[name.split(".", 1)[0]])


class Lists:
    """The host's lists, and its way of reading a folder anew."""

    def __init__(self, host: Any) -> None:
        self.module = host.load("host.installed")
        self.infos: dict[str, Any] = host.modules.sd_models.checkpoints_list
        self.aliases: dict[str, Any] = host.modules.sd_models.checkpoint_aliases
        self.vaes: dict[str, str] = host.modules.sd_vae.vae_dict
        self.options = host.modules.shared.opts
        self.options.sd_model_checkpoint = None
        self.clear()

    def clear(self) -> None:
        self.infos.clear()
        self.aliases.clear()
        self.vaes.clear()

    def add(self, name: str) -> Any:
        info = checkpoint(name)
        self.infos[info.title] = info
        self.aliases.update(dict.fromkeys((info.title, info.name, *info.ids), info))
        return info


@pytest.fixture
def lists(host: Any) -> Lists:
    return Lists(host)


@pytest.fixture
def later() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Something that happens in a tenth of a second, in another thread."""
    threads: list[threading.Thread] = []

    def run(what: Callable[[], Any]) -> None:
        threads.append(threading.Thread(target=lambda: (time.sleep(0.1), what())))
        threads[-1].start()

    yield run
    for thread in threads:
        thread.join()


def test_a_loop_over_the_list_is_not_disturbed_by_a_refresh(lists: Lists):
    names = ["a.safetensors", "b.ckpt"]
    for name in names:
        lists.add(name)
    seen = []
    for info in lists.module.installed():
        lists.clear()
        seen.append(info.name)
    assert seen == names


@pytest.mark.parametrize("name", ["a", "a.safetensors", "a.safetensors [abc]", "/models/a.safetensors"])
def test_found_by_each_of_its_names(lists: Lists, name: str):
    info = lists.add("a.safetensors")
    lists.add("ab.safetensors")
    assert lists.module.find_checkpoint(name, "source_checkpoint") is info


def test_a_part_of_a_name_names_none(lists: Lists):
    lists.add("anything.safetensors")
    with pytest.raises(CheckpointError, match="there is no checkpoint named"):
        lists.module.find_checkpoint("any", "source_checkpoint")


@pytest.mark.parametrize("before", [(), ("b.ckpt",)])
def test_found_once_the_list_has_been_read_anew(lists: Lists, later: Any, before: tuple[str, ...]):
    for name in before:
        lists.add(name)
    later(lambda: lists.add("a.safetensors"))
    assert lists.module.find_checkpoint("a", "source_checkpoint").name == "a.safetensors"


def test_a_list_that_stands_still_is_not_waited_for(lists: Lists):
    lists.add("b.ckpt")
    start = time.monotonic()
    with pytest.raises(CheckpointError):
        lists.module.find_checkpoint("a", "source_checkpoint")
    assert time.monotonic() - start < 2


def test_the_selected_one_and_the_one_that_a_request_names(lists: Lists):
    one, other = lists.add("a.safetensors"), lists.add("b.ckpt")
    lists.options.sd_model_checkpoint = "a.safetensors [abc]"
    assert lists.module.selected(None) is one
    assert lists.module.selected("b") is other


def test_no_other_in_place_of_the_selected_one(lists: Lists):
    """The host's own would take the first."""
    lists.add("b.ckpt")
    lists.options.sd_model_checkpoint = "a.safetensors"
    assert lists.module.selected(None) is None
    with pytest.raises(CheckpointError, match="no checkpoint is selected"):
        lists.module.require_selected(None)


def test_the_selected_one_is_waited_for(lists: Lists, later: Any):
    lists.options.sd_model_checkpoint = "a.safetensors"
    later(lambda: lists.add("a.safetensors"))
    assert lists.module.require_selected(None).name == "a.safetensors"


def test_a_vae_is_found_once_its_list_has_been_read_anew(lists: Lists, later: Any, tmp_path: Any):
    (file := tmp_path / "sharp.pt").write_bytes(b"x")
    later(lambda: (lists.vaes.update({"sharp.pt": str(file)}), lists.add("a.safetensors")))
    assert lists.module.find_vae("sharp.pt") == str(file)
    with pytest.raises(CheckpointError, match="there is no VAE named"):
        lists.module.find_vae("sharp")


class TestPanel:
    """Its question while there is no list: what is loaded is the target."""

    def test_what_is_loaded(self, lists: Lists):
        info = checkpoint("a.safetensors")
        assert lists.module.selected_or_loaded("a.safetensors", SimpleNamespace(sd_checkpoint_info=info)) is info

    def test_nothing_at_all(self, lists: Lists):
        with pytest.raises(CheckpointError, match="no checkpoint is selected; refresh the list and choose one"):
            lists.module.selected_or_loaded("a.safetensors", None)

    def test_what_the_page_has_selected(self, lists: Lists):
        loaded = SimpleNamespace(sd_checkpoint_info=checkpoint("b.ckpt"))
        info = lists.add("a.safetensors")
        assert lists.module.selected_or_loaded("a.safetensors", loaded) is info
