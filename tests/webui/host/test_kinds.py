"""Which hosts are known, told by what their models have."""

from types import ModuleType, SimpleNamespace

import pytest

from ditail_ext.errors import UnsupportedModelError


@pytest.fixture
def kinds(host: SimpleNamespace) -> ModuleType:
    """The module under test on a host that has the WebUI's modules and nothing of reForge's or Forge's."""
    host.fake(devices={}, sd_hijack={}, sd_models={})
    return host.load("host.kinds")


def nothing(*_: object) -> None:
    """Stands for a method that nobody calls."""


def test_the_webui_is_known(kinds: ModuleType):
    model = SimpleNamespace(apply_model=nothing)
    kinds.require_known(model)
    assert type(kinds.of(model)).__name__ == "A1111"


@pytest.mark.parametrize(
    "model",
    [
        SimpleNamespace(),  # a pipeline of diffusers (SD.Next)
        SimpleNamespace(forge_objects=SimpleNamespace(unet=None)),  # Forge with a model of another kind
        SimpleNamespace(
            apply_model=nothing, forge_objects=SimpleNamespace(unet=None)
        ),  # it is there, and never called
    ],
)
def test_another_host_is_refused_in_true_words(model: SimpleNamespace, kinds: ModuleType):
    with pytest.raises(UnsupportedModelError, match="nothing would be injected"):
        kinds.require_known(model)
