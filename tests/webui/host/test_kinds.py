"""Which hosts are known, told by what their models have."""

from types import SimpleNamespace

import pytest

from ditail_ext.errors import UnsupportedModelError
from ditail_ext.webui.host import kinds


def test_the_webui_is_known():
    kinds.require_known(SimpleNamespace(apply_model=lambda *_: None))


@pytest.mark.parametrize(
    "model",
    [
        SimpleNamespace(),  # a pipeline of diffusers (SD.Next)
        SimpleNamespace(forge_objects=SimpleNamespace(unet=None)),  # Forge
        SimpleNamespace(apply_model=lambda *_: None, forge_objects=SimpleNamespace(unet=None)),  # it never calls it
    ],
)
def test_another_host_is_refused_in_true_words(model):
    with pytest.raises(UnsupportedModelError, match="nothing would be injected"):
        kinds.require_known(model)
